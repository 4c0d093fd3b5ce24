"""Sites and cells in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from lucidlm.locale import text
from lucidlm.trace.cells import Cell
from lucidlm.trace.numbers import Number, digits


def sentence(key: str, lang: str) -> str:
    """What the sites of row `key` are, in one sentence."""
    group, noun = key.split(".")
    return text(f"sites.{group}.{noun}", lang)


def label(key: str, lang: str) -> str:
    """The same in a few words."""
    group, noun = key.split(".")
    return text(f"sites.{group}.{noun}.label", lang)


def cell_words(cell: Cell, lang: str) -> str:
    """What the number in `cell` is: of which kind, where, and how much."""
    value, place = number(cell.value, lang), places(cell, lang)
    if cell.kind == "ids":
        return text("glass.id", lang, place=place, id=value)
    if cell.site is None:
        shape = " × ".join(map(str, cell.shape))
        return text("glass.parameter", lang, name=cell.name, shape=shape, place=place, at=value)
    here = text("glass.here", lang, place=place, at=value)
    about = sentence(cell.site.key, lang)
    return about + text("glass.between", lang) + here


def places(cell: Cell, lang: str) -> str:
    """Where it is along each axis; positions with the token that stands there."""
    found = []
    for axis, at in zip(cell.axes, cell.index, strict=True):
        place = text(f"glass.axis_{axis}", lang, at=at)
        if axis in cell.labels:
            place = text("glass.labelled", lang, place=place, label=cell.labels[axis])
        found.append(place)
    return text("glass.comma", lang).join(found)


def listed(items: Sequence[str], kind: Literal["part", "clause"], lang: str) -> str:
    """Parts or clauses of a sentence, one after another: "a, b and c"."""
    *most, last = items or ("",)
    before = text(f"glass.{kind}_comma", lang).join(most)
    return before + text(f"glass.{kind}_and", lang) + last if most else last


def number(value: Number, lang: str) -> str:
    """About six digits; yes and no for what is kept."""
    if value is None:
        return text("glass.nothing", lang)
    if isinstance(value, bool):
        return text("glass.yes" if value else "glass.no", lang)
    if isinstance(value, int):
        return str(value)
    if math.isinf(value):
        return "-∞" if value < 0 else "∞"
    return digits(value)
