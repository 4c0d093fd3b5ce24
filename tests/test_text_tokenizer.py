"""Tokenizers: round trips, bytes, special tokens, folders, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lucidlm.errors import LucidError, TokenizerError
from lucidlm.generate import TextStream, text_of
from lucidlm.home import models_home
from lucidlm.text.backend import repeats_a_repetition
from lucidlm.text.builtin import KINDS, builtin, corpus
from lucidlm.text.folder import load_tokenizer, save_tokenizer
from lucidlm.text.spelling import byte_alphabet, readable
from lucidlm.text.tokenizer import Specials, Tokenizer
from lucidlm.text.train import KINDS as TRAINED
from lucidlm.text.train import train_tokenizer

TEXTS = (
    st.text(max_size=40)
    | st.text(alphabet="the happest 'dont.,!  12好我\n", max_size=40)
    | st.lists(st.sampled_from(corpus()), max_size=2).map("\n".join)
)


@cache
def trained(kind: str) -> Tokenizer:
    return train_tokenizer(kind, corpus()[::5], 700)


@cache
def byte_fallback() -> Tokenizer:
    """A SentencePiece kind with bytes and a space in front, as Llama's."""
    from lucidlm.text.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, SentencePiece, build

    letters = ["▁", "▁t", "he", "▁the", *"abcdehinopst好我"]
    model = SentencePiece(
        kind="bpe",
        pieces=["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *letters],
        scores=[0.0] * 259 + [-float(n) for n in range(len(letters))],
        types=[UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(letters),
        remove_extra_whitespaces=False,
        byte_fallback=True,
        unk=0,
    )
    return Tokenizer(build(model), Specials(bos=1, eos=(2,), unk=0))


@settings(max_examples=200)
@given(text=TEXTS)
@example(text=" leading and trailing ")
def test_byte_level_round_trip(text: str) -> None:
    for tokenizer in (builtin("bpe"), trained("bpe"), byte_fallback()):
        ids = tokenizer.encode(text, allow_special=False)
        assert tokenizer.decode(ids, skip_special=False) == text
        assert all(0 <= id < tokenizer.vocab_size for id in ids)


@pytest.mark.parametrize("kind", [*TRAINED, *KINDS, "byte fallback"])
@given(text=TEXTS)
def test_decoding_equals_the_librarys(kind: str, text: str) -> None:
    tokenizer = (
        byte_fallback()
        if kind == "byte fallback"
        else (builtin if kind in KINDS else trained)(kind)
    )
    ids = tokenizer.encode(text)
    library = tokenizer.backend.decode(ids)
    if "\ufffd" not in library:
        assert tokenizer.decode(ids) == library


@pytest.mark.parametrize("kind", [*TRAINED, "byte fallback"])
@settings(max_examples=200)
@given(data=st.data())
def test_streaming_equals_decoding(kind: str, data: st.DataObject) -> None:
    """For any ids, also such as make no text."""
    tokenizer = byte_fallback() if kind == "byte fallback" else trained(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    for fresh in (True, False):
        decoded = tokenizer.decode(ids, continued=not fresh)
        assert text_of(ids, tokenizer, (), fresh=fresh) == decoded
        assert "\ufffd" not in decoded


@given(text=st.text(alphabet="我很开心😀éa", min_size=1))
def test_a_stream_never_cuts_a_character(text: str) -> None:
    tokenizer = byte_fallback()
    stream = TextStream(drop_space=tokenizer.lead_space)
    shown = ""
    for id in tokenizer.encode(text, special=False):
        shown += stream.push(tokenizer.bytes_of(id))
        assert text.startswith(shown)
    assert shown == text and stream.flush() == ""


def test_bytes_that_are_no_text_are_shown() -> None:
    tokenizer = byte_fallback()
    first, second = (tokenizer.backend.token_to_id(piece) for piece in ("<0xE5>", "<0xA5>"))
    assert tokenizer.decode([first, second]) == "\\xE5\\xA5"
    assert readable(b"ok\xff") == "ok\\xFF"


def test_byte_alphabet_is_gpt2s() -> None:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    assert byte_alphabet() == {letter: byte for byte, letter in bytes_to_unicode().items()}


def test_pieces_bytes_and_spaces() -> None:
    bpe, wordpiece, llama = builtin("bpe"), builtin("wordpiece"), byte_fallback()
    the = bpe.encode(" the", special=False)
    assert [bpe.piece(id) for id in the] == ["Ġthe"] and bpe.bytes_of(the[0]) == b" the"
    assert llama.bytes_of(llama.backend.token_to_id("▁the")) == b" the"
    assert llama.bytes_of(llama.backend.token_to_id("<0xE5>")) == b"\xe5"
    assert llama.bytes_of(2) == b"</s>" and llama.is_special(2) and not llama.is_special(4)
    inside = wordpiece.backend.token_to_id("##s")
    assert wordpiece.bytes_of(inside) == b"s"
    start = wordpiece.backend.token_to_id("the")
    assert (wordpiece.bytes_of(start), wordpiece.own_bytes(start)) == (b" the", b"the")
    assert (bpe.lead_space, wordpiece.lead_space, llama.lead_space) == (False, True, True)
    assert llama.decode(llama.encode("the")) == "the"
    assert llama.decode(llama.encode("the", special=False), continued=True) == " the"


@pytest.mark.parametrize("id", [-1, 10**6, 2**40])
def test_no_such_id(id: int) -> None:
    with pytest.raises(TokenizerError, match="no token with id"):
        builtin("bpe").piece(id)


@pytest.mark.parametrize("kind", [*KINDS, "byte fallback"])
@given(text=st.text(alphabet="a <|>/s[MASK]endoftxunk", max_size=30))
@example(text="a <|endoftext|></s>[MASK]<unk>")
def test_special_tokens_as_words(kind: str, text: str) -> None:
    tokenizer = byte_fallback() if kind == "byte fallback" else builtin(kind)
    unk = {tokenizer.specials.unk}
    plain = tokenizer.encode(text, special=False, allow_special=False)
    assert not (tokenizer.special_ids - unk).intersection(plain)
    whole = tokenizer.encode(text, allow_special=False)
    around = tokenizer.encode("")
    assert len(whole) == len(plain) + len(around)


def test_special_tokens_are_read_as_such_by_default() -> None:
    assert (
        builtin("bpe").encode("a<|endoftext|>", special=False)[-1] == builtin("bpe").specials.eos[0]
    )
    assert builtin("wordpiece").encode("[MASK]") == [2, 4, 3]


def test_pairs_have_segments() -> None:
    tokenizer = builtin("wordpiece")
    pair = tokenizer.encode_pair("the cat", "我很")
    first, second = (tokenizer.encode(text, special=False) for text in ("the cat", "我很"))
    assert pair.ids == [2, *first, 3, *second, 3]
    assert pair.segments == [0] * (len(first) + 2) + [1] * (len(second) + 1)


@pytest.mark.parametrize("kind", TRAINED)
def test_saved_and_loaded_again(kind: str, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = trained(kind)
    tokenizer = Tokenizer(tokenizer.backend, tokenizer.specials, "{{ messages }}")
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in corpus()[::40]:
        assert again.encode(text) == tokenizer.encode(text) == theirs(text)["input_ids"]
    assert (again.specials, again.chat_template) == (tokenizer.specials, "{{ messages }}")
    assert theirs.eos_token_id == next(iter(tokenizer.specials.eos), None)
    assert again.kind == tokenizer.kind == {"bpe-char": "bpe"}.get(kind, kind)


def test_many_ends_are_saved(tmp_path: Path) -> None:
    tokenizer = Tokenizer(builtin("bpe").backend, Specials(eos=(0, 9)))
    save_tokenizer(tokenizer, tmp_path)
    assert load_tokenizer(tmp_path).specials.eos == (0, 9)


def test_check() -> None:
    tokenizer = builtin("bpe")
    tokenizer.check(tokenizer.vocab_size)
    tokenizer.check(tokenizer.vocab_size + 64)
    with pytest.raises(TokenizerError, match="do not belong together"):
        tokenizer.check(tokenizer.vocab_size - 1)


def test_ids_with_gaps_count(tmp_path: Path) -> None:
    value = json.loads(builtin("bpe").backend.to_str())
    last = max(value["model"]["vocab"], key=value["model"]["vocab"].__getitem__)
    value["model"]["vocab"][last] = 5000
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    assert load_tokenizer(tmp_path).vocab_size == 5001


def test_gpt2_files(tmp_path: Path) -> None:
    model = json.loads(builtin("bpe").backend.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "eos_token": {"content": "<|endoftext|>"},
                "added_tokens_decoder": {"0": {"content": "<|endoftext|>", "special": True}},
            }
        )
    )
    tokenizer = load_tokenizer(tmp_path)
    for text in [*corpus()[::20], "<|endoftext|> a"]:
        assert tokenizer.encode(text) == builtin("bpe").encode(text)
    assert tokenizer.specials.eos == (0,)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(TokenizerError, match=r"merges\.txt"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("lower", [True, False])
def test_bert_vocab_txt(tmp_path: Path, lower: bool) -> None:
    from transformers import BertTokenizer

    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "The",
        "cat",
        "##s",
        "我",
        "é",
        "e",
        ".",
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    theirs = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=lower)
    ours = load_tokenizer(tmp_path)
    for text in ("The cats.", "the é 我我 [MASK]", "zebra", ""):
        assert ours.encode(text) == theirs(text)["input_ids"]
    assert ours.encode("the") == load_tokenizer(tmp_path / "vocab.txt").encode("the")


@pytest.mark.checkpoint("minilm-l6")
@settings(max_examples=100)
@given(text=TEXTS)
def test_minilm_equals_transformers(text: str) -> None:
    ours, theirs = _minilm()
    assert ours.encode(text) == theirs(text)["input_ids"]
    assert ours.specials.mask == theirs.mask_token_id


@cache
def _minilm() -> tuple[Tokenizer, Any]:
    from transformers import AutoTokenizer

    folder = models_home() / "minilm-l6"
    return load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)


WRONG: dict[str, bytes] = {
    "empty": b"",
    "not json": b"hello",
    "a list": b"[]",
    "no model": b"{}",
    "cut": b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "mer',
    "unknown model": b'{"version": "1.0", "model": {"type": "Magic"}}',
    "deep": b'{"version": ' + b"[" * 100_000,
    "merge of nothing": b'{"model":{"type":"BPE","vocab":{"a":0},"merges":[["x","y"]]}}',
    "slow pattern": json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(x+x+)+y"},
                "behavior": "Isolated",
                "invert": False,
            },
            "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        }
    ).encode(),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(WRONG[name])
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(TokenizerError) as caught:
            load_tokenizer(path)
        assert "tokenizer.json" in str(caught.value) and "\n" not in str(caught.value)
        assert caught.value.message("zh")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="no file or folder"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_files_beyond_the_limit_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(10**9)  # sparse
    with pytest.raises(TokenizerError, match="at most"):
        load_tokenizer(tmp_path)


def test_padding_and_truncation_of_a_file_are_not_ours(tmp_path: Path) -> None:
    value = json.loads(builtin("bpe").backend.to_str())
    value["padding"] = {
        "strategy": {"Fixed": 10**12},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }
    value["truncation"] = {
        "max_length": 1,
        "strategy": "LongestFirst",
        "stride": 0,
        "direction": "Right",
    }
    value["model"]["dropout"] = 0.5
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("the happy cats") == builtin("bpe").encode("the happy cats")


@pytest.mark.parametrize(
    ("pattern", "slow"),
    [
        ("(a+)+", True),
        ("(x+x+)+y", True),
        ("((a|b)*c?)*", True),
        ("(?:a{2,})*", True),
        (r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+", False),
        (r"[(+*]+\)+", False),
        (r"(\(+)\+", False),
        ("(ab)+(cd)*", False),
    ],
)
def test_patterns_that_could_take_for_ever(pattern: str, slow: bool) -> None:
    assert repeats_a_repetition(pattern) is slow


@pytest.mark.parametrize("kind", TRAINED)
def test_the_same_text_trains_the_same_tokenizer(kind: str) -> None:
    texts = corpus()[::3]
    first, second = (train_tokenizer(kind, texts, 800) for _ in range(2))
    assert first.backend.to_str() == second.backend.to_str()
    assert first.vocab_size <= 800
    assert any(len(first.encode(text, special=False)) > 1 for text in texts)


@pytest.mark.parametrize(
    ("kind", "texts", "size"),
    [
        ("magic", ["a"], 300),
        ("bpe", ["a"], 10),
        ("bpe", ["a"], 0),
        ("bpe", ["a"], 10**9),
        ("unigram", [], 300),
        ("char", ["", "  "], 300),
    ],
)
def test_training_that_cannot_be(kind: str, texts: list[str], size: int) -> None:
    with pytest.raises(LucidError) as caught:
        train_tokenizer(kind, texts, size)
    assert caught.value.message("zh")


@pytest.mark.parametrize("kind", TRAINED)
def test_special_tokens_of_ones_own(kind: str) -> None:
    tokenizer = train_tokenizer(kind, corpus()[::9], 500, special=["<SOS>", "<EOS>"])
    ids = tokenizer.encode("<SOS>我很<EOS>", special=False)
    assert [tokenizer.piece(id) for id in (ids[0], ids[-1])] == ["<SOS>", "<EOS>"]
    assert tokenizer.is_special(ids[0])


def test_importing_the_part_loads_no_library() -> None:
    """What is heavy is imported when it is used: `--help` must not wait for it."""
    program = (
        "import sys\n"
        "from lucidlm.text import builtin, chat, compare, explain, folder, gguf, train\n"
        "assert not {'tokenizers', 'jinja2', 'numpy', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
