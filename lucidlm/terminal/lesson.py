"""A lesson drawn: paragraphs wrapped by the width that characters have, tables, bars, heat maps,
and what the article says beside what is so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from lucidlm.lessons.kinds import Bars, Block, Figures, Flow, Matrix, Pieces, Table
from lucidlm.lessons.telling import Passage, Told
from lucidlm.terminal.show import bar, columns, harmless, labelled, percent
from lucidlm.terminal.wrap import columns as wide
from lucidlm.terminal.wrap import wrap

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH = 92  # columns of a line that is pleasant to read
BAR = 30
INDENT, GAP = 2, 3  # before a block; between two columns of a table
LIMITS = (24, 18, 18)  # of the columns of a comparison, the reason's apart
STYLES = {"": "", "strong": "bold", "code": "cyan"}
SHADES = ("", "on grey19", "on grey30", "on dark_cyan", "black on cyan", "black on bright_cyan")


def draw_lesson(console: Console, told: Told) -> None:
    """All of it, beat by beat."""
    console.print(Text(told.title, style="bold bright_cyan"))
    for beat in told.beats:
        console.print(Text(f"\n{beat.heading}", style="bold cyan"))
        if beat.needs is not None:
            _text(console, [(beat.needs, "dim")])
        for before, passage in pairwise([None, *beat.passages]):
            assert passage is not None
            if not (before is not None and before.kind == passage.kind == "item"):
                console.print()
            _passage(console, passage)


def _passage(console: Console, passage: Passage) -> None:
    if passage.block is not None:
        for drawn in _block(passage.block, min(console.width, WIDTH)):
            console.print(Padding.indent(drawn, INDENT))
        return
    styled = [(words, STYLES[style]) for words, style in passage.spans]
    if passage.kind == "code":
        for line in "".join(words for words, _ in styled).splitlines():
            console.print(Text("  " + line, style="cyan"))
        return
    _text(console, styled, first="· " if passage.kind == "item" else "")


def _text(console: Console, styled: Sequence[tuple[str, str]], first: str = "") -> None:
    """A paragraph in lines; each character keeps its style across the breaks."""
    styles = [style for words, style in styled for _ in words]
    flowing = "".join(words for words, _ in styled)
    at, start = 0, first
    for line in wrap(flowing, min(console.width, WIDTH) - len(first)).split("\n"):
        while at < len(flowing) and line and flowing[at] != line[0]:
            at += 1  # the space that the break took
        drawn = Text(start)
        for character in line:
            drawn.append(character, style=styles[at])
            at += 1
        console.print(drawn)
        start = " " * len(first)


def _block(block: Block, width: int) -> Iterator[RenderableType]:
    match block:
        case Table():
            numeric = [at for at, cell in enumerate(block.rows[0]) if not isinstance(cell, str)]
            table = columns(*block.heads, right=numeric)
            for cells in block.cells():
                table.add_row(*(Text(harmless(cell)) for cell in cells))
            yield table
        case Bars():
            table = columns("", "", "", right=(2,))
            for label, share in block.rows:
                drawn = Text(bar(share, BAR), style="cyan")
                table.add_row(Text(harmless(label)), drawn, percent(share))
            yield table
        case Matrix():
            yield _matrix(block)
        case Pieces():
            for name, pieces in block.rows:
                yield Text(name, style="dim").append(f"  ({len(pieces)})")
                yield Padding.indent(_pieces(pieces, width - 2 * INDENT), INDENT)
        case Flow():
            for name, shape in block.stages:
                yield Text(f"[ {name} ]", style="bold")
                if shape:
                    yield Text("   ↓  ", style="dim").append(shape, style="cyan")
        case Figures():
            yield _figures(block, width)


def _pieces(pieces: Sequence[str], width: int) -> Text:
    """Pieces with lines between them; no piece is broken where it fits on a line."""
    drawn, at = Text(), 0
    for piece in map(labelled, pieces):
        if at and at + wide(f" │ {piece} │") > width:
            drawn.append(" │\n", style="dim")
            at = 0
        elif at:
            drawn.append(" │ ", style="dim")
            at += 3
        drawn.append(piece, style="green")
        at += wide(piece)
    return drawn


def _matrix(matrix: Matrix) -> RenderableType:
    """Names at the sides, numbers in the cells, darker to lighter by how large they are."""
    right = range(1, len(matrix.columns) + 1)
    table = columns("", *matrix.columns, right=tuple(right))
    largest = max((abs(x) for x in matrix.values.flat if math.isfinite(x)), default=0.0)
    for name, values, cells in zip(matrix.rows, matrix.values, matrix.cells(), strict=True):
        row = []
        for value, cell in zip(values, cells, strict=True):
            share = abs(value) / largest if largest and math.isfinite(value) else 0.0
            shade = SHADES[round(share * (len(SHADES) - 1))] if matrix.shaded else ""
            row.append(Text(f" {cell} ", style=shade))
        table.add_row(Text(harmless(name), style="bold"), *row)
    return table


def _figures(figures: Figures, width: int) -> RenderableType:
    """The reason in the room that the other columns leave."""
    shown = [(row.label, *row.shown) for row in figures.rows]
    taken = sum(
        min(limit, max(wide(row[at]) for row in [figures.heads, *shown])) + GAP
        for at, limit in enumerate(LIMITS)
    )
    table = columns(*figures.heads)
    for cells, row in zip(shown, figures.rows, strict=True):
        label, article, true = map(wrap, cells, LIMITS)
        reason = wrap(row.reason, max(16, width - INDENT - taken - GAP))
        table.add_row(Text(label), Text(article, "yellow"), Text(true, "green"), Text(reason))
    return table
