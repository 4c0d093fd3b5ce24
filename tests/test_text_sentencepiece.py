"""SentencePiece files and vocabularies: ids equal the `sentencepiece` library's own."""

from __future__ import annotations

import io
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lucidlm.errors import TokenizerError
from lucidlm.text.builtin import corpus
from lucidlm.text.folder import load_tokenizer, save_tokenizer
from lucidlm.text.sentencepiece import build, read
from lucidlm.text.tokenizer import Tokenizer

SHAPES: dict[str, dict[str, Any]] = {
    "unigram": {"model_type": "unigram", "normalization_rule_name": "nmt_nfkc"},
    "unigram bytes": {
        "model_type": "unigram",
        "normalization_rule_name": "nmt_nfkc",
        "byte_fallback": True,
    },
    "unigram identity": {
        "model_type": "unigram",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "bpe llama": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "byte_fallback": True,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_digits": True,
    },
    "bpe gemma": {
        "model_type": "bpe",
        "normalization_rule_name": "identity",
        "byte_fallback": True,
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["\n", "\n\n", "▁▁", "▁▁▁", "<table>"],
    },
    "bpe nfkc": {"model_type": "bpe", "normalization_rule_name": "nmt_nfkc"},
    "char": {"model_type": "char", "normalization_rule_name": "identity"},
}

# Letters of several scripts, punctuation, emoji: composed, since the library applies its tables to
# no grapheme of six bytes and more
ALPHABET = "abcdehinopst .,!?'12 　我很开心今天好，。？éßñΩж№½Ａ😀👩🏽"
TEXTS = st.text(alphabet=ALPHABET, max_size=40) | st.lists(
    st.sampled_from([*corpus(), " ", "  ", "\n", "\n\n", "hello  world "]), max_size=4
).map("".join)


@cache
def trained(shape: str) -> bytes:
    """A .model file of this shape, trained by the library itself."""
    options = {"vocab_size": 1500, "character_coverage": 0.99, "minloglevel": 9, "num_threads": 1}
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=out,
        hard_vocab_limit=False,
        **options | SHAPES[shape],
    )
    return out.getvalue()


@cache
def oracle(shape: str) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=trained(shape))


@cache
def ours(shape: str) -> Tokenizer:
    return Tokenizer(build(read(trained(shape), shape)))


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=60)
@given(text=TEXTS)
@example(text="今天天气很好，我想去爬山 😀 \t x")
@example(text="   a   b   ")
def test_ids_equal_the_librarys(shape: str, text: str) -> None:
    expected = oracle(shape).encode(text)
    assert ours(shape).encode(text, special=False) == expected
    if oracle(shape).unk_id() not in expected:
        assert ours(shape).decode(expected) == oracle(shape).decode(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_the_file_says_is_read(shape: str) -> None:
    model, library = read(trained(shape), shape), oracle(shape)
    size = library.get_piece_size()
    assert model.pieces == [library.id_to_piece(id) for id in range(size)]
    assert model.scores == [library.get_score(id) for id in range(size)]
    assert [t == 3 for t in model.types] == [library.is_control(id) for id in range(size)]
    assert [t == 6 for t in model.types] == [library.is_byte(id) for id in range(size)]
    ids = (library.unk_id(), library.bos_id(), library.eos_id(), library.pad_id())
    assert (model.unk, model.bos, model.eos, model.pad) == tuple(
        id if id >= 0 else None for id in ids
    )


@given(data=st.data())
def test_damaged_files_are_refused_in_one_sentence(data: st.DataObject) -> None:
    whole = trained("unigram")
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + data.draw(st.binary(min_size=1, max_size=9)) + whole[at + 1 :]
    try:
        build(read(damaged, "x"))
    except TokenizerError as error:
        assert "\n" not in str(error)


def test_folder_of_llama_and_t5(tmp_path: Path) -> None:
    text = "今天 the day"
    for shape, name, family in (
        ("bpe llama", "tokenizer.model", "LlamaTokenizer"),
        ("unigram", "spiece.model", "T5Tokenizer"),
    ):
        folder = tmp_path / family
        folder.mkdir()
        (folder / name).write_bytes(trained(shape))
        config = {
            "tokenizer_class": family,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        tokenizer, ids = load_tokenizer(folder), oracle(shape).encode(text)
        assert tokenizer.encode(text) == ([1, *ids] if "Llama" in family else [*ids, 2])
        assert tokenizer.specials.eos == (2,) and tokenizer.specials.unk == 0
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.piece(tokenizer.vocab_size - 1) == "<extra_id_0>"


def test_xlm_r_shifts_its_ids(tmp_path: Path) -> None:
    (tmp_path / "sentencepiece.bpe.model").write_bytes(trained("unigram"))
    ids = oracle("unigram").encode("the day")
    assert load_tokenizer(tmp_path).encode("the day") == [0, *(id + 1 for id in ids), 2]


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Marian's: two models, joint ids in another order, a few pieces missing."""
    folder = tmp_path_factory.mktemp("marian")
    options = {"vocab_size": 1300, "minloglevel": 9, "num_threads": 1, "hard_vocab_limit": False}
    pieces: list[str] = []
    for name, sentences in (("source", corpus()[:190]), ("target", corpus()[190:])):
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=out, **options
        )
        (folder / f"{name}.spm").write_bytes(out.getvalue())
        model = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
        pieces += [model.id_to_piece(id) for id in range(3, model.get_piece_size())]
    known = [piece for piece in dict.fromkeys(pieces) if len(piece) != 4]  # a few are missing
    names = ["</s>", "<unk>", ">>zho<<", *sorted(known), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: id for id, name in enumerate(names)}))
    config = {"source_lang": "en", "target_lang": "zh", "tokenizer_class": "MarianTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@settings(max_examples=60)
@given(text=TEXTS)
@example(text=">>zho<< the cat")
def test_marian(marian: Path, text: str) -> None:
    from transformers import MarianTokenizer

    library = _once(MarianTokenizer.from_pretrained, marian)
    tokenizer = _once(load_tokenizer, marian)
    assert tokenizer.encode(text) == library(text)["input_ids"]
    assert tokenizer.vocab_size == len(library)
    target = library(text_target=text)["input_ids"]
    if tokenizer.specials.unk not in target:
        assert tokenizer.decode(target) == library.decode(target, skip_special_tokens=True)


@cache
def _once(function: Any, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers recommends a package for punctuation
        return function(path)


def test_marian_is_saved_as_it_was(marian: Path, tmp_path: Path) -> None:
    save_tokenizer(load_tokenizer(marian), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in marian.iterdir()
    }
