"""Tables without the spaces that would fill their lines up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table


class Trimming(RenderHook):
    """What a console draws through, so that no line of a table ends in spaces."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Trimmed(one) if isinstance(one, Table | Padding) else one for one in renderables]


@dataclass(frozen=True)
class _Trimmed:
    content: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in Segment.split_lines(console.render(self.content, options)):
            while line and not line[-1].text.strip(" ") and not _shows(line[-1]):
                line.pop()
            if line and not _shows(line[-1]):
                line[-1] = Segment(line[-1].text.rstrip(" "), line[-1].style)
            yield from line
            yield Segment.line()


def _shows(segment: Segment) -> bool:
    """Whether spaces in it are seen."""
    style = segment.style
    return style is not None and (style.bgcolor is not None or bool(style.underline))
