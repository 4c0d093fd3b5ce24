"""One run, drawn: its tokens and how sure the model was of each, what every layer would have said,
and what the heads look at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from lucidlm.terminal.show import columns, labelled, paragraph, percent

if TYPE_CHECKING:
    from rich.console import Console

    from lucidlm.trace.heads import HeadReport, Tag
    from lucidlm.trace.lens import Lens
    from lucidlm.trace.run import Token
    from lucidlm.trace.trace import Trace

Say = Callable[..., str]
HEADS = 6  # of each kind, the clearest


@dataclass(frozen=True)
class Sight:
    """How sure the model was of one token: the token's probability over the whole vocabulary, that
    in bits, and how open the choice was (entropy in bits).
    """

    probability: float
    bits: float
    entropy: float


@dataclass(frozen=True)
class Traced:
    """A run and what is shown of it: `sights` by position, `lens` at the last one, tagged heads."""

    trace: Trace
    sights: dict[int, Sight]
    lens: Lens | None
    heads: Sequence[HeadReport]


def draw_trace(console: Console, say: Say, seen: Traced, lang: str) -> None:
    """Everything that `trace` shows."""
    trace = seen.trace
    for edit in trace.edits:
        line = say("glass.edit", kind=edit.kind, address=edit.address)
        paragraph(console, line, style="yellow")
    if trace.sources:
        console.print(Text(say("glass.source"), style="bold"))
        console.print(Padding.indent(_table(say, trace.sources, {}), 2))
        console.print()
    console.print(Text(say("glass.tokens"), style="bold"))
    console.print(Padding.indent(_table(say, trace.tokens, seen.sights), 2))
    if seen.sights:
        paragraph(console, say("glass.about_tokens"), indent=2, first="  ", style="dim")
    if seen.lens is not None:
        _draw_lens(console, say, trace, seen.lens)
    _draw_heads(console, say, seen.heads, lang)


def _table(say: Say, tokens: Sequence[Token], sights: dict[int, Sight]) -> Padding:
    names = ["glass.position", "glass.token", "glass.token_id", "glass.phase"]
    if sights:
        names += ["glass.probability", "glass.bits", "glass.entropy"]
    table = columns(*map(say, names), right=(0, 2, 4, 5, 6))
    for token in tokens:
        style = "bold green" if token.chosen else ""
        step = "" if token.step is None else f" {token.step}"
        row = [
            Text(str(token.position), style="dim"),
            Text(labelled(token.label), style=style),
            Text(str(token.id), style="dim"),
            Text(say(f"glass.phase_{token.phase}") + step, style="dim"),
        ]
        if (sight := sights.get(token.position)) is not None:
            row.append(Text(percent(sight.probability), style=style))
            row += [Text(f"{sight.bits:.2f}"), Text(f"{sight.entropy:.2f}")]
        table.add_row(*row)
    return Padding(table, 0)


def _draw_lens(console: Console, say: Say, trace: Trace, lens: Lens) -> None:
    """The likeliest word behind each layer, in one flowing line."""
    position = lens.positions[-1]
    console.print()
    console.print(Text(say("glass.lens", position=position), style="bold"))
    said = []
    for row in lens.rows:
        if row.place == "feedforward":
            best = row.readings[-1].top[0]
            said.append(f"{row.layer}:\u00a0{labelled(best.label)}\u00a0{_short(best.probability)}")
    paragraph(console, "  ".join(said), indent=2, first="  ")


def _draw_heads(console: Console, say: Say, heads: Sequence[HeadReport], lang: str) -> None:
    """The clearest heads of each kind that has some."""
    from lucidlm.trace.heads import TAGS, tag_formula, tag_words

    if not heads:
        return
    console.print()
    console.print(Text(say("glass.heads"), style="bold"))
    for tag in TAGS:
        tagged = sorted((h for h in heads if tag in h.tags), key=lambda h: -score(h, tag))
        if not tagged:
            continue
        some = say("glass.comma").join(
            say(_named(one.address), layer=one.layer, head=one.head, score=f"{score(one, tag):.2f}")
            for one in tagged[:HEADS]
        )
        if len(tagged) > HEADS:
            some += say("glass.more", count=len(tagged) - HEADS)
        line = say("glass.tagged", tag=tag_words(tag, lang), heads=some)
        paragraph(console, line, indent=4, first="  ")
        paragraph(console, tag_formula(tag, lang), indent=4, style="dim")


def _named(address: str) -> str:
    """How a head is called; in a model of two stacks that says which."""
    stack = address.partition(".")[0]
    return f"glass.head_{stack}" if stack in ("encoder", "decoder") else "glass.head"


def score(head: HeadReport, tag: Tag) -> float:
    """How far a head is of a kind, from 0 to 1."""
    found: float | None = getattr(head, tag)
    return found or 0.0


def _short(share: float) -> str:
    return percent(share).replace(" ", "\u00a0")
