"""Three small tokenizers that come with the package, so that a text can be looked at without any
model.

They are trained by scripts/make_tokenizers.py on the sentences in data/, half English and half
Chinese; they are for showing how tokenizers work, not for a model.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lucidlm.errors import UnknownName
from lucidlm.text.folder import load_tokenizer
from lucidlm.text.tokenizer import Tokenizer

KINDS = ("bpe", "wordpiece", "unigram")
DATA = Path(__file__).parent / "data"
SIZES = {"bpe": 2500, "wordpiece": 2500, "unigram": 2500}  # entries at most


@cache
def builtin(kind: str) -> Tokenizer:
    """The small tokenizer of one kind: "bpe" (of bytes), "wordpiece" or "unigram"."""
    if kind not in KINDS:
        raise UnknownName("text.unknown_kind", kind, KINDS)
    return load_tokenizer(DATA / kind / "tokenizer.json")


def corpus() -> list[str]:
    """The sentences that the three were trained on, English and Chinese."""
    return [
        line
        for language in ("en", "zh")
        for line in (DATA / f"corpus.{language}.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
