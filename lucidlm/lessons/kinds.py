"""What a lesson can show: numbers, words and vectors inside a sentence; tables, bars, heat maps,
pieces, flows and comparisons as blocks of their own.

Each block is plain data. `markdown` writes it down for a reader without a terminal, `plain` for a
program.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Cell = str | int | float
Inline = Cell | Sequence[Cell] | Array


@dataclass(frozen=True)
class Table:
    """Rows of cells; `spec` formats the numbers that are not whole."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    spec: str = ".4g"

    def cells(self) -> list[list[str]]:
        return [[inline(cell, self.spec) for cell in row] for row in self.rows]

    def markdown(self) -> str:
        return _markdown_table(self.heads, self.cells())


@dataclass(frozen=True)
class Bars:
    """Shares of a whole, from 0 to 1, each with what it belongs to."""

    rows: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, labels: Iterable[str], shares: Iterable[float]) -> Bars:
        pairs = zip(labels, shares, strict=True)
        return cls(tuple((label, float(share)) for label, share in pairs))

    def markdown(self) -> str:
        return "\n".join(f"- {label}: {share:.1%}" for label, share in self.rows)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A small matrix with names at its sides, drawn as a heat map where `shaded` is true.

    `values` is (rows, columns); minus infinity is a cell that nobody may see.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Array
    spec: str = ".2f"
    shaded: bool = True

    def __post_init__(self) -> None:
        assert self.values.shape == (len(self.rows), len(self.columns)), "a name for each side"

    def cells(self) -> list[list[str]]:
        return [[inline(float(value), self.spec) for value in row] for row in self.values]

    def markdown(self) -> str:
        rows = [[name, *cells] for name, cells in zip(self.rows, self.cells(), strict=True)]
        return _markdown_table(("", *self.columns), rows)


@dataclass(frozen=True)
class Pieces:
    """A text in pieces, under the name of who cut it."""

    rows: tuple[tuple[str, tuple[str, ...]], ...]

    def markdown(self) -> str:
        return "\n".join(f"- {name}: {' │ '.join(pieces)}" for name, pieces in self.rows)


@dataclass(frozen=True)
class Flow:
    """Stages one below the other, and what runs from each into the next (the last one's is "")."""

    stages: tuple[tuple[str, str], ...]

    def markdown(self) -> str:
        lines = (f"{name} → {shape}" if shape else name for name, shape in self.stages)
        return "\n".join(f"- {line}" for line in lines)


@dataclass(frozen=True)
class Figure:
    """What the article says beside what is so, and why they differ."""

    label: str
    article: Inline
    true: Inline
    reason: str
    spec: str = ".4g"

    @property
    def shown(self) -> tuple[str, str]:
        """Both values as text."""
        return inline(self.article, self.spec), inline(self.true, self.spec)


@dataclass(frozen=True)
class Figures:
    """A table of comparisons. `heads` (what, the article, it is, why) come when it is told."""

    rows: tuple[Figure, ...]
    heads: tuple[str, ...] = ("", "", "", "")

    def markdown(self) -> str:
        rows = [[figure.label, *figure.shown, figure.reason] for figure in self.rows]
        return _markdown_table(self.heads, rows)


Block = Table | Bars | Matrix | Pieces | Flow | Figures
Value = Inline | Block


def times(*sizes: int) -> str:
    """The shape of a matrix, as in 4 × 12,288."""
    return " × ".join(map(inline, sizes))


def inline(value: Inline, spec: str = "", comma: str = ", ") -> str:
    """A value inside a sentence: 1,234 or 0.1235 or [0.1, 0.3], and words with `comma` between
    them. `spec` formats every number that is not whole, and whole ones where it is for integers.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer):
        return format(int(value), spec if spec and spec[-1] in "dx," else ",")
    if isinstance(value, float | np.floating):
        return _real(float(value), spec or ".4g")
    joined = [inline(each, spec) for each in value]
    words = all(isinstance(each, str) for each in value)
    return comma.join(joined) if words else f"[{', '.join(joined)}]"


def plain(value: Any) -> Any:
    """A value as JSON knows it; what is not finite becomes null."""
    if isinstance(value, Block):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Figure):
        found = {name: plain(getattr(value, name)) for name in ("article", "true")}
        return {"name": value.label, **found, "reason": value.reason}
    if isinstance(value, str | int):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return [plain(each) for each in value]


def _real(value: float, spec: str) -> str:
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    shown = format(value, spec)
    return shown.removeprefix("-") if not shown.strip("-0.%") else shown  # no minus zero


def _markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
