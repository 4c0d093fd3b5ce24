"""A lesson's Markdown: its title, its beats, and its terms; with live expressions in it.

    # Title
    ## Heading {#beat-id}
    A paragraph with {{name}} or {{name:.3f}} in it, **strong** words and `code`.
    - an item
    {{name}}                      alone in its paragraph: a block
    [^key]: a term, which the lesson's Python file asks for by `say("key")`

An expression is a name to look up and a format, nothing that is run.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

EXPRESSION = re.compile(r"\{\{([a-z][a-z0-9_.]*)(?::([^{}]+))?\}\}")
HEADING = re.compile(r"## (.+?) \{#([a-z][a-z0-9-]*)\}")
TERM = re.compile(r"\[\^([a-z][a-z0-9_-]*)\]: (.+)")
FENCE_OR_TEXT = re.compile(r"^```\n(.*?)\n```$|(.+?)(?=^```$|\Z)", re.DOTALL | re.MULTILINE)
STYLED = re.compile(r"\*\*(.+?)\*\*|`([^`]+)`")

Style = Literal["", "strong", "code"]
Span = tuple[str, Style]
Kind = Literal["paragraph", "item", "code", "block"]


@dataclass(frozen=True)
class Part:
    """One paragraph, list item, fenced code, or expression on its own; the source of it."""

    kind: Kind
    source: str


@dataclass(frozen=True)
class Beat:
    """One step of the walk."""

    id: str
    heading: str
    parts: tuple[Part, ...]

    @property
    def expressions(self) -> set[tuple[str, str]]:
        """(name, format) of what is live in it."""
        sources = [self.heading, *(part.source for part in self.parts)]
        return {(name, spec) for source in sources for name, spec in EXPRESSION.findall(source)}


@dataclass(frozen=True)
class Page:
    """A lesson in one language, not yet told."""

    title: str
    beats: tuple[Beat, ...]
    terms: dict[str, str]


def parse(source: str) -> Page:
    """Read a lesson's file. Raises ValueError for what has no place in one."""
    first, *chunks = re.split(r"^(?=## )", source, flags=re.MULTILINE)
    title = first.strip()
    if not title.startswith("# ") or "\n" in title:
        raise ValueError(f"a lesson begins with its title, then come beats: {title[:40]!r}")
    terms: dict[str, str] = {}
    beats = tuple(_beat(chunk, terms) for chunk in chunks)
    return Page(title.removeprefix("# "), beats, terms)


def whole(source: str) -> Span:
    """Text without any style in it."""
    return (source, "")


def spans(source: str) -> list[Span]:
    """A paragraph cut where its style changes."""
    found: list[Span] = []
    at = 0
    for span in STYLED.finditer(source):
        strong, code = span.groups()
        found.append((source[at : span.start()], ""))
        found.append((strong, "strong") if strong else (code, "code"))
        at = span.end()
    found.append((source[at:], ""))
    return [(text, style) for text, style in found if text]


def _beat(chunk: str, terms: dict[str, str]) -> Beat:
    line, _, body = chunk.partition("\n")
    heading = HEADING.fullmatch(line.strip())
    if heading is None:
        raise ValueError(f"a heading needs a beat id, as in '## The mask {{#mask}}': {line!r}")
    return Beat(heading[2], heading[1], tuple(_parts(body, terms)))


def _parts(body: str, terms: dict[str, str]) -> Iterator[Part]:
    """The parts of a beat; what is a term goes into `terms`."""
    for code, text in FENCE_OR_TEXT.findall(body):
        if code:
            yield Part("code", code)
            continue
        for paragraph in re.split(r"\n\s*\n", text.strip()):
            yield from _paragraph(paragraph, terms)


def _paragraph(paragraph: str, terms: dict[str, str]) -> Iterator[Part]:
    joined: list[str] = []
    for line in paragraph.splitlines():
        if joined and not line.startswith(("- ", "[^")):
            joined[-1] = _join(joined[-1], line.strip())
        elif line.strip():
            joined.append(line.strip())
    for line in joined:
        if term := TERM.fullmatch(line):
            if term[1] in terms:
                raise ValueError(f"the term {term[1]!r} is there twice")
            terms[term[1]] = term[2]
        elif line.startswith("- "):
            yield Part("item", line.removeprefix("- "))
        else:
            yield Part("block" if EXPRESSION.fullmatch(line) else "paragraph", line)


def _join(before: str, after: str) -> str:
    """Two lines of one paragraph: Chinese needs no space between them."""
    wide = all(unicodedata.east_asian_width(c) in "WF" for c in (before[-1], after[0]))
    return before + ("" if wide else " ") + after
