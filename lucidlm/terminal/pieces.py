"""How a text became pieces, drawn stage by stage; a part of a character is named as such, never
shown as a broken one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from lucidlm.terminal.show import columns, labelled, marked, paragraph, whole
from lucidlm.text.explain import Pretoken, TextExplanation
from lucidlm.text.spelling import labels
from lucidlm.text.steps import Lattice, LongestMatch, Merges, Path
from lucidlm.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from rich.console import Console

Say = Callable[..., str]
CUT = " │ "


def draw_explanation(
    console: Console, say: Say, name: str, tokenizer: Tokenizer, explanation: TextExplanation
) -> None:
    """All stages from the text to its ids."""
    size, pieces = whole(tokenizer.vocab_size), explanation.pieces
    console.print(
        Text(say("terminal.tokenizer", name=name, kind=tokenizer.kind, size=size), style="dim")
    )
    _heading(console, 1, say("terminal.text"))
    _line(console, marked(explanation.text))
    _heading(console, 2, say("terminal.normalized"))
    if explanation.normalized == explanation.text:
        _line(console, say("terminal.unchanged"), style="dim")
    else:
        _line(console, marked(explanation.normalized))
        for change in explanation.changes:
            line = (
                Text(f"    {marked(change.before) or '∅'}")
                .append(" → ", style="dim")
                .append(marked(change.after) or "∅")
            )
            console.print(line)
    _heading(console, 3, say("terminal.pretokens"))
    _line(console, CUT.join(marked(pretoken.text) for pretoken in explanation.pretokens))
    _heading(console, 4, say(f"terminal.cutting_{tokenizer.kind}"))
    for pretoken in explanation.pretokens:
        _draw_cutting(console, say, tokenizer, pretoken)
    _heading(console, 5, say("terminal.pieces", count=len(pieces)))
    table = columns(
        "",
        *map(say, ("terminal.label", "terminal.piece", "terminal.bytes", "terminal.id")),
        right=(0, 4),
    )
    for at, piece in enumerate(pieces):
        data = piece.bytes.hex(" ").upper()
        table.add_row(
            Text(str(at), style="dim"),
            Text(labelled(piece.label), style="green"),
            Text(marked(piece.text)),
            data,
            str(piece.id),
        )
    console.print(Padding.indent(table, 2))


def _draw_cutting(console: Console, say: Say, tokenizer: Tokenizer, pretoken: Pretoken) -> None:
    """What the algorithm did to one pre-token."""
    title = Text("  ").append(marked(pretoken.text), style="bold")
    steps = pretoken.steps
    if isinstance(steps, Merges):
        console.print(title)
        for rank, left, right, result in merge_labels(tokenizer, steps):
            line = (
                Text(f"    {left}")
                .append(" + ", style="dim")
                .append(right)
                .append(" → ", style="dim")
            )
            console.print(
                line.append(result, style="green").append(
                    f"   {say('terminal.rank', rank=rank)}", style="dim"
                )
            )
        if not steps.merges:
            console.print(Text(f"    {say('terminal.no_merge')}", style="dim"))
        return
    if isinstance(steps, LongestMatch):
        console.print(title)
        _draw_matches(console, say, steps)
        return
    elif isinstance(steps, Lattice):
        title.append("  ").append(_path(steps.best), style="green")
        title.append(
            f"  {say('terminal.log_probability', value=f'{steps.best.score:.2f}')}", style="dim"
        )
        if steps.runner_up is not None:
            other = say(
                "terminal.runner_up",
                path=_path(steps.runner_up),
                value=f"{steps.runner_up.score:.2f}",
            )
            title.append(f"\n    {other}", style="dim")
    else:
        title.append(
            "  " + say("terminal.special" if pretoken.special else "terminal.whole_entry"),
            style="dim",
        )
    console.print(title)


def merge_labels(tokenizer: Tokenizer, steps: Merges) -> Iterator[tuple[int, str, str, str]]:
    """(rank, left, right, result) of each merge in order, labelled by what the neighbours make of
    the bytes.
    """
    symbols = dict(enumerate(steps.start))
    names = _labels(tokenizer, symbols)
    for merge in steps.merges:
        places = list(symbols)
        at = places.index(merge.at)
        left, right = names[at], names[at + 1]
        del symbols[places[at + 1]]
        symbols[merge.at] = merge.result
        names = _labels(tokenizer, symbols)
        yield merge.rank, left, right, names[at]


def _labels(tokenizer: Tokenizer, symbols: dict[int, str]) -> list[str]:
    ids = (tokenizer.backend.token_to_id(symbol) for symbol in symbols.values())
    data = [tokenizer.own_bytes(id) for id in ids if id is not None]
    assert len(data) == len(symbols), "every symbol is an entry"
    return [labelled(label) for label in labels(data)]


def _draw_matches(console: Console, say: Say, steps: LongestMatch) -> None:
    """Each piece found, and how many longer ones were looked for in vain."""
    misses = 0
    for tried in steps.tries:
        if not tried.found:
            misses += 1
            continue
        line = Text(f"    {marked(tried.piece)}", style="green")
        console.print(
            line.append(
                f"   {say('terminal.misses', count=misses)}" if misses else "",
                style="not green dim",
            )
        )
        misses = 0
    if steps.unknown:
        console.print(Text(f"    {say('terminal.unknown_word')}", style="yellow"))


def _path(path: Path) -> str:
    return " · ".join(marked(edge.piece) for edge in path.edges)


def _heading(console: Console, index: int, title: str) -> None:
    console.print(Text(f"\n{index} ", style="bold cyan").append(title, style="bold"))


def _line(console: Console, sentence: str, style: str = "") -> None:
    paragraph(console, sentence, indent=2, style=style)
