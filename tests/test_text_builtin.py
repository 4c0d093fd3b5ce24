"""The small tokenizers that come with the package, and the comparison of tokenizers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lucidlm.errors import UnknownName
from lucidlm.text.builtin import DATA, KINDS, builtin, corpus
from lucidlm.text.compare import CHARACTERS, CHINESE, ENGLISH, WORDS, compare
from lucidlm.text.train import train_tokenizer

ROOT = Path(__file__).parent.parent


def test_the_shipped_files_are_what_the_script_makes(tmp_path: Path) -> None:
    """Byte for byte, in a process of its own with another hash seed."""
    script = ROOT / "scripts" / "make_tokenizers.py"
    subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path)],
        check=True,
        timeout=120,
        capture_output=True,
    )
    made = {
        path.relative_to(tmp_path): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert {path.parts[0] for path in made} == set(KINDS)
    for name, data in made.items():
        assert (DATA / name).read_bytes() == data, name
        assert len(data) < 300_000


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    tokenizer = builtin(kind)
    assert tokenizer.kind == kind and builtin(kind) is tokenizer
    assert 1000 < tokenizer.vocab_size <= 2500


def test_unknown_kind() -> None:
    with pytest.raises(UnknownName, match="bpe"):
        builtin("bp")


def test_corpus_is_in_both_languages() -> None:
    sentences = corpus()
    chinese = [s for s in sentences if any("\u4e00" <= c <= "\u9fff" for c in s)]
    assert len(sentences) == len(set(sentences)) > 380
    assert abs(len(chinese) - len(sentences) / 2) < 20


def test_compare_counts_tokens_per_word_and_character() -> None:
    letters = train_tokenizer("char", [ENGLISH, CHINESE], 1000)
    rows = compare(
        {"bytes": train_tokenizer("bpe", ["x"], 257), "letters": letters}
        | {k: builtin(k) for k in KINDS}
    )
    assert [row.name for row in rows] == ["bytes", "letters", *KINDS]
    assert rows[0].english_tokens == len(ENGLISH.encode()) and rows[0].chinese_tokens == len(
        CHINESE.encode()
    )
    assert rows[1].chinese_tokens == len(CHINESE)
    assert rows[0].per_character == len(CHINESE.encode()) / CHARACTERS > 3
    assert rows[1].per_word == len(ENGLISH) / WORDS > 5
    for row in rows[2:]:
        assert 1 < row.per_word < rows[1].per_word and 0.5 < row.per_character < 3
