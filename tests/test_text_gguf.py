"""Tokenizers out of GGUF metadata: both kinds of real files, and small ones of every kind."""

from __future__ import annotations

import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lucidlm.errors import LucidError
from lucidlm.home import models_home
from lucidlm.text import cache as kept
from lucidlm.text.builtin import builtin, corpus
from lucidlm.text.cache import tokenizer_from_gguf
from lucidlm.text.spelling import byte_alphabet
from lucidlm.text.tokenizer import Tokenizer
from lucidlm.text.watch import pretokens

TEXTS = (
    st.text(max_size=30)
    | st.text(alphabet="the happest 'dont.,!  12\n", max_size=40)
    | st.lists(st.sampled_from(corpus()), max_size=2).map("\n".join)
)
SENTENCEPIECE = {
    "llama": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "t5": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc"},
}


@cache
def oracle(kind: str) -> sentencepiece.SentencePieceProcessor:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=out,
        vocab_size=1500,
        minloglevel=9,
        num_threads=1,
        hard_vocab_limit=False,
        **SENTENCEPIECE[kind],
    )
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def of_sentencepiece(kind: str) -> dict[str, Any]:
    """The metadata that llama.cpp's converter writes for a SentencePiece model."""
    model = oracle(kind)
    ids = range(model.get_piece_size())
    types = [
        2 if model.is_unknown(id) else 3 if model.is_control(id) else 6 if model.is_byte(id) else 1
        for id in ids
    ]
    metadata: dict[str, Any] = {
        "tokens": [model.id_to_piece(id) for id in ids],
        "scores": np.array([model.get_score(id) for id in ids], np.float32),
        "token_type": np.array(types, np.int32),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    if kind == "t5":
        from sentencepiece.sentencepiece_model_pb2 import ModelProto

        proto = ModelProto.FromString(model.serialized_model_proto())
        metadata["precompiled_charsmap"] = list(proto.normalizer_spec.precompiled_charsmap)
        metadata |= {
            "remove_extra_whitespaces": True,
            "add_eos_token": True,
            "add_bos_token": False,
        }
    return named(kind, metadata)


def of_bpe(pre: str = "gpt-2") -> dict[str, Any]:
    model = json.loads(builtin("bpe").backend.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return named(
        "gpt2",
        {
            "pre": pre,
            "tokens": tokens,
            "token_type": [3] + [1] * (len(tokens) - 1),
            "merges": [" ".join(pair) for pair in model["merges"]],
            "eos_token_id": 0,
        },
    )


def of_bert() -> dict[str, Any]:
    """WordPiece as llama.cpp spells it: ▁ before words, nothing inside."""
    vocab = builtin("wordpiece").backend.get_vocab()
    pieces = sorted(vocab, key=vocab.__getitem__)
    tokens = [
        p[2:] if p.startswith("##") else p if p.startswith("[") and len(p) > 1 else f"▁{p}"
        for p in pieces
    ]
    return named(
        "bert",
        {
            "tokens": tokens,
            "token_type": [3] * 5 + [1] * (len(tokens) - 5),
            "unknown_token_id": 1,
            "cls_token_id": 2,
            "seperator_token_id": 3,
            "mask_token_id": 4,
            "padding_token_id": 0,
        },
    )


def named(kind: str, metadata: dict[str, Any]) -> dict[str, Any]:
    return {f"tokenizer.ggml.{name}": value for name, value in (metadata | {"model": kind}).items()}


@cache
def built(kind: str) -> Tokenizer:
    return tokenizer_from_gguf(
        {"gpt2": of_bpe, "bert": of_bert}.get(kind, lambda: of_sentencepiece(kind))()
    )


@pytest.mark.parametrize("kind", SENTENCEPIECE)
@settings(max_examples=60)
@given(text=st.text(alphabet="abcdehinopst .,!?'12我很开心今天好，😀", max_size=40))
def test_sentencepiece_kinds(kind: str, text: str) -> None:
    ids = oracle(kind).encode(text)
    assert built(kind).encode(text, special=False) == ids
    assert built(kind).encode(text) == ([1, *ids] if kind == "llama" else [*ids, 2])


@pytest.mark.parametrize(("kind", "like"), [("gpt2", "bpe"), ("bert", "wordpiece")])
@settings(max_examples=60)
@given(text=TEXTS)
@example(text="[MASK] the <|endoftext|>")
def test_same_as_the_tokenizer_it_was_made_from(kind: str, like: str, text: str) -> None:
    assert built(kind).encode(text) == builtin(like).encode(text)
    assert built(kind).specials == builtin(like).specials
    ids = built(kind).encode(text)
    assert built(kind).decode(ids) == builtin(like).decode(ids)


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("gpt-2", "a 123 b", ["a", " 123", " b"]),
        ("smollm", "a 123 b", ["a", " ", "1", "2", "3", " b"]),
        ("llama-bpe", "A'LL 12345\n\n", ["A", "'LL", " ", "123", "45", "\n\n"]),
        ("qwen2", "e\u0301 12", ["é", " ", "1", "2"]),
        ("tekken", "helloWorld 12", ["hello", "World", " ", "1", "2"]),
        ("gpt-4o", "HelloWorld's 1234", ["Hello", "World's", " ", "123", "4"]),
    ],
)
def test_rules_of_splitting(pre: str, text: str, expected: list[str]) -> None:
    """Against the published patterns' effect: words, digits, contractions."""
    alphabet = byte_alphabet()
    stretches = pretokens(tokenizer_from_gguf(of_bpe(pre)), text)
    assert [
        bytes(alphabet[c] for c in stretch.spelled).decode() for stretch in stretches
    ] == expected


def test_cache_is_used_and_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCIDLM_HOME", str(tmp_path))
    metadata = of_sentencepiece("llama") | {"tokenizer.ggml.add_space_prefix": False}
    text = "今天 the  day </s> 😀"
    first = tokenizer_from_gguf(metadata, "abc")
    path = kept.cache_path("abc")
    assert path.is_file() and path.parent == tmp_path / "tokenizers"
    scalars = {
        name: value
        for name, value in metadata.items()
        if not hasattr(value, "__len__") or isinstance(value, str)
    }
    second = tokenizer_from_gguf(scalars, "abc")  # the lists are not asked for
    assert second.encode(text) == first.encode(text) and second.specials == first.specials
    assert second.encode(text, allow_special=False) == first.encode(text, allow_special=False)
    assert second.backend.to_str() == first.backend.to_str()
    for damage in (b"", b"{}", path.read_bytes()[:-9], b"[1]", b"\xff"):
        path.write_bytes(damage)
        assert tokenizer_from_gguf(metadata, "abc").encode(text) == first.encode(text)
        assert len(path.read_bytes()) > 1000


@pytest.mark.parametrize("kind", ["gpt2", "bert", "t5"])
def test_kept_form_is_the_same_tokenizer(kind: str) -> None:
    before = built(kind).backend
    after = kept.unpack(kept.pack(before), Path("x"))
    old, new = json.loads(before.to_str()), json.loads(after.to_str())
    if kind == "t5":  # the library's JSON is one unit off in the last digit of some scores
        assert dict(new["model"].pop("vocab")) == pytest.approx(dict(old["model"].pop("vocab")))
    assert new == old


def test_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizers").write_text("a file where the folder should be")
    monkeypatch.setenv("LUCIDLM_HOME", str(tmp_path))
    assert tokenizer_from_gguf(of_bpe(), "abc").encode("the")


def test_fingerprints_stay_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCIDLM_HOME", str(tmp_path))
    for fingerprint in ("../../x", "a/b", "", ".", "..", "x" * 500, "\0", "名"):
        assert kept.cache_path(fingerprint).parent == tmp_path / "tokenizers"


BROKEN: dict[str, dict[str, Any]] = {
    "no model": {"model": None},
    "unknown model": {"model": "rwkv"},
    "unknown pre": {"pre": "no-such-rule"},
    "no tokens": {"tokens": None},
    "tokens are numbers": {"tokens": [1, 2, 3]},
    "tokens are one string": {"tokens": "abc"},
    "merges missing": {"merges": None},
    "merges unknown": {"merges": ["zzz qqq"]},
    "merges without space": {"merges": ["zzz"]},
    "types too short": {"token_type": [1]},
    "types not finite": {"token_type": [float("nan")] * 1889},
    "a token twice": {"tokens": ["a"] * 1889},
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_metadata_is_one_sentence(name: str) -> None:
    metadata = (
        of_bpe() | named("gpt2", {}) | {f"tokenizer.ggml.{k}": v for k, v in BROKEN[name].items()}
    )
    with pytest.raises(LucidError) as caught:
        tokenizer_from_gguf(metadata, None)
    assert caught.value.message("zh") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["scores", "token_type"])
def test_broken_scores(name: str) -> None:
    with pytest.raises(LucidError, match=name):
        tokenizer_from_gguf(
            of_sentencepiece("llama") | {f"tokenizer.ggml.{name}": np.zeros(3)}, None
        )


def test_ids_outside_the_vocabulary_are_ignored() -> None:
    metadata = of_bpe() | named(
        "gpt2", {"eos_token_id": 10**9, "bos_token_id": -1, "padding_token_id": "x"}
    )
    specials = tokenizer_from_gguf(metadata).specials
    assert (specials.eos, specials.bos, specials.pad) == ((), None, None)


def test_every_way_to_end_a_turn() -> None:
    metadata = of_bpe() | named("gpt2", {"eos_token_id": 0, "eot_token_id": 7, "eom_token_id": 0})
    assert tokenizer_from_gguf(metadata).specials.eos == (0, 7)


@cache
def real(name: str) -> tuple[Tokenizer, Any]:
    """(ours, transformers') of a pulled GGUF file."""
    from transformers import AutoTokenizer

    from lucidlm.checkpoint.gguf import open_gguf

    path = next((models_home() / name).glob("*.gguf"))
    theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    return tokenizer_from_gguf(open_gguf(path).metadata, None), theirs


# transformers does not split digits one by one for `smollm`. No merge joins ASCII digits, so it is
# other numerals that differ, and white space, of which a digit takes the last.
WITHOUT_NUMERALS = TEXTS.filter(
    lambda text: (
        all(c.isascii() or not c.isnumeric() for c in text) and not re.search(r"\s\s[0-9]", text)
    )
)


@pytest.mark.checkpoint("smollm2-135m")
@settings(max_examples=100)
@given(text=WITHOUT_NUMERALS)
@example(text="<|im_start|>user\n12 3<|im_end|>")
def test_smollm2_equals_transformers(text: str) -> None:
    ours, theirs = real("smollm2-135m")
    assert ours.encode(text) == theirs(text)["input_ids"]
    known = {byte for letter, byte in byte_alphabet().items() if ours.backend.token_to_id(letter)}
    if known.issuperset(text.encode()):  # this vocabulary lacks bytes that no common text has
        assert ours.decode(ours.encode(text), skip_special=False) == text


@pytest.mark.checkpoint("smollm2-135m")
def test_smollm2_chat_equals_transformers() -> None:
    from lucidlm.text.chat import encode_chat
    from lucidlm.text.template import load

    ours, theirs = real("smollm2-135m")
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert encode_chat(ours, load(ours), messages) == expected


@pytest.mark.slow
@pytest.mark.checkpoint("gemma3-270m")
@settings(max_examples=100)
@given(text=TEXTS)
@example(text="今天是我的生日，我很")
@example(text="a  b   c\n\n\n\td <start_of_turn>")
def test_gemma3_equals_transformers(text: str) -> None:
    ours, theirs = real("gemma3-270m")
    assert ours.encode(text) == theirs(text)["input_ids"]
