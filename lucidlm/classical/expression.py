"""`king - man + woman`: word arithmetic as people type it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from lucidlm.errors import LucidError

PLUS, MINUS = "+", "-"
WIDE = str.maketrans("＋－−", "+--")  # full width, and the minus of mathematics


@dataclass(frozen=True)
class Term:
    sign: int  # 1 or -1
    word: str


def parse(expression: str, is_word: Callable[[str], bool]) -> list[Term]:
    """The signed words of a sum. Signs may stand apart (king - man) or not (king-man).

    A word that `is_word` knows keeps the hyphens inside it (vice-president). Raises LucidError when
    a word or a sign is missing.
    """
    items = expression.translate(WIDE).split()
    pieces = [piece for item in items for piece in _pieces(item, is_word)]
    if not pieces:
        raise LucidError("classical.empty_expression")
    if pieces[0] not in (PLUS, MINUS):
        pieces.insert(0, PLUS)
    terms = []
    for sign, word in zip(pieces[::2], [*pieces[1::2], MINUS], strict=False):
        if sign not in (PLUS, MINUS):
            raise LucidError("classical.expected_sign", expression=expression, word=sign)
        if word in (PLUS, MINUS):
            raise LucidError("classical.expected_word", expression=expression, sign=sign)
        terms.append(Term(1 if sign == PLUS else -1, word))
    return terms


def _pieces(item: str, is_word: Callable[[str], bool]) -> list[str]:
    """Signs and words of a piece of text without spaces; a leading sign is always a sign."""
    if item[0] in (PLUS, MINUS):
        return [item[0], *(_pieces(item[1:], is_word) if item[1:] else [])]
    return [item] if is_word(item) else re.findall(r"[+-]|[^+-]+", item)
