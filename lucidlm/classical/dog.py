"""The dog's language: six words, one form of sentence, `我 刚才 X，我 现在 Y`.

What a dog does now depends on what it did just before, and that word stands three words back: a
model of order 2 or 3 cannot see it and gives the overall frequencies; one of order 4 sees it.
"""

from __future__ import annotations

from pathlib import Path

from lucidlm.classical.ngram import NGram, SmoothingName
from lucidlm.classical.words import Words

WORDS = Words(("我", "刚才", "现在", "吃饭", "睡觉", "跑步"), dropped="，")  # the comma is no word


def text() -> str:
    """What the dog was heard to say, a sentence a line, ten for each thing it had been doing."""
    return (Path(__file__).parent / "data" / "dog.txt").read_text(encoding="utf-8")


def model(order: int, smoothing: SmoothingName = "none") -> NGram:
    """An n-gram model counted from `text()`."""
    return NGram.train(WORDS.encode_lines(text()), WORDS, order, smoothing)
