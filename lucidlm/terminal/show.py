"""Small things to draw with: numbers as people read them, bars, and text that cannot harm a
terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lucidlm.terminal.wrap import wrap
from lucidlm.trace.numbers import tenths

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BLOCKS = " ▏▎▍▌▋▊▉█"
PART, JOIN = (
    re.compile(r". [1-4](?:-[1-4])?/[2-4] \([0-9A-F ]+\)"),
    " + ",
)  # as labels names a part of a character
VISIBLE = {" ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥"}


def harmless(text: str) -> str:
    """`text` for a terminal: line breaks and tabs stay, other controls show as escapes."""
    return "".join(c if c in "\n\t" or not _controls(c) else _escaped(c) for c in text)


def marked(text: str) -> str:
    """A token's text on one line: spaces and line breaks visible, control characters as escapes."""
    return "".join(VISIBLE.get(c) or (_escaped(c) if _controls(c) else c) for c in text)


def labelled(label: str) -> str:
    """A token's label (`lucidlm.text.spelling.labels`) on one line: of "好 1/3 (E5)" only what is
    text is marked.
    """
    found, at = [], 0
    for part in PART.finditer(label):
        found += [label[at : part.start()].removesuffix(JOIN), part.group()]
        at = part.end() + (len(JOIN) if label.startswith(JOIN, part.end()) else 0)
    found.append(label[at:])
    return JOIN.join(piece if PART.fullmatch(piece) else marked(piece) for piece in found if piece)


def bar(share: float, columns: int) -> str:
    """A bar of at most `columns` columns, drawn to an eighth of one; anything above 0 leaves a
    trace.
    """
    eighths = round(max(0.0, min(1.0, share)) * columns * 8)
    whole, part = divmod(max(eighths, 1 if share > 0 else 0), 8)
    return "█" * whole + (BLOCKS[part] if part else "")


def percent(share: float) -> str:
    """61.2 %; what would round to nothing, or to all, does not: 3.1e-07 %, 99.98 %."""
    value = share * 100
    return f"{tenths(value)} %" if value >= 0.05 or value == 0 else f"{value:.2g} %"


def number(value: float) -> str:
    """About four digits of a measured value."""
    if value == 0:
        return "0"
    return (
        f"{value:.4g}"
        if abs(value) >= 1e5 or abs(value) < 1e-3
        else f"{value:.{4 if abs(value) < 1 else 3}f}"
    )


def whole(value: float) -> str:
    """174,604,259,328"""
    return f"{value:,.0f}"


def size(count: float) -> str:
    """Bytes as kB, MB, GB or TB (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 999.5 else f"{count:,.0f} TB"


def short(count: float) -> str:
    """175 B, 58.0 B, 3.1 M: a large number to remember."""
    for unit in ("", " k", " M", " B"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} T"


def vector(values: Iterable[float]) -> str:
    """The first values of a vector, as wide as each other while they are below 100."""
    return " ".join(f"{value:7.3f}" if abs(value) < 100 else f"{value:7.5g}" for value in values)


def paragraph(
    console: Console, sentence: str, *, first: str = "", indent: int = 0, style: str = ""
) -> None:
    """`sentence` in lines that begin `indent` columns from the left, the first of them with `first`
    there.
    """
    from rich.text import Text

    start = first or " " * indent
    for line in wrap(sentence, console.width - indent).split("\n"):
        console.print(Text(start + line, style=style))
        start = " " * indent


def columns(*headings: str, right: Sequence[int] = ()) -> Table:
    """An empty table without lines; the columns in `right` hold numbers."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD if any(headings) else None,
        show_header=any(headings),
        show_edge=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for at, heading in enumerate(headings):
        if at in right:
            table.add_column(heading, justify="right", overflow="fold", no_wrap=True)
        else:
            table.add_column(heading, overflow="fold")
    return table


def _controls(character: str) -> bool:
    """Control characters of C0 and C1, and those that turn the direction of writing."""
    code = ord(character)
    return (
        code < 0x20 or 0x7F <= code < 0xA0 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}"
