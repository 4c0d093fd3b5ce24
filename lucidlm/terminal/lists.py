"""Tables of one kind of thing: models, lessons, neighbours of a word, words for a blank, a
score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from lucidlm.terminal.show import bar, columns, marked, paragraph, percent, short, size, whole

if TYPE_CHECKING:
    from rich.console import Console

    from lucidlm.api import Blank
    from lucidlm.classical.vectors import Analogy, Neighbour
    from lucidlm.generate import Score
    from lucidlm.text.compare import Row as Cost

Say = Callable[..., str]
Place = Literal["shipped", "installed", "not_installed"]
PLACES: Mapping[Place, str] = {
    "shipped": "terminal.shipped",
    "installed": "terminal.installed",
    "not_installed": "terminal.not_installed",
}
BAR = 24  # columns


@dataclass(frozen=True)
class Listed:
    """A model in the list: where it is, its size in bytes, its licence, and what it is."""

    name: str
    place: Place
    bytes: int
    licence: str
    about: str


def draw_models(console: Console, say: Say, models: Sequence[Listed]) -> None:
    """Each model: whether it is here, its size and licence, what it is."""
    name = max(len(model.name) for model in models)
    for model in models:
        here = model.place != "not_installed"
        line = Text("✓ ", style="bold green") if here else Text("· ", style="dim")
        line.append(model.name.ljust(name), style="not dim bold")
        line.append(f"  {size(model.bytes):>8}", style="not dim")
        line.append(f"   {say(PLACES[model.place])}")
        console.print(line.append(f"   {model.licence}", style="not bold dim"))
        paragraph(console, model.about, indent=2)
        console.print()
    console.print(Text(say("terminal.how_to_pull"), style="dim"))


def draw_presets(console: Console, say: Say, sizes: Mapping[str, int]) -> None:
    """Names that `count` knows without any file."""
    table = columns(say("terminal.name"), say("terminal.parameters"), "", right=(1, 2))
    for name, parameters in sizes.items():
        table.add_row(
            Text(name, style="bold"), whole(parameters), Text(short(parameters), style="dim")
        )
    console.print(table)


def draw_lessons(console: Console, say: Say, lessons: Sequence[tuple[str, str]]) -> None:
    """Names and titles, and how to take one."""
    table = columns("", "")
    for name, title in lessons:
        table.add_row(Text(name, style="bold"), title)
    console.print(table)
    console.print()
    paragraph(console, say("lessons.how_to_take"), style="dim")


def draw_blanks(console: Console, say: Say, text: str, blanks: Sequence[Blank]) -> None:
    """For each masked place the likeliest words."""
    console.print(Text(text, style="dim"))
    for at, blank in enumerate(blanks, 1):
        console.print(Text("\n" + say("terminal.blank", index=at), style="bold"))
        table = columns("", "", "", right=(2,))
        for word, share in blank.words:
            table.add_row(
                Text(f"  {marked(word)}"), Text(bar(share, BAR), style="cyan"), percent(share)
            )
        rest = max(0.0, 1 - sum(share for _, share in blank.words))
        table.add_row(
            Text("  " + say("terminal.all_others"), style="dim"),
            Text(bar(rest, BAR), style="dim"),
            percent(rest),
        )
        console.print(table)


def draw_analogy(console: Console, say: Say, found: Analogy) -> None:
    """Both lists side by side: all words, and all but the ones that were put in."""
    signs = {1: "+", -1: "-"}
    terms = " ".join(f"{signs[term.sign]} {term.word}" for term in found.terms).removeprefix("+ ")
    console.print(Text(terms, style="bold"))
    console.print()
    inputs = {term.word.lower() for term in found.terms}
    both = Table.grid(padding=(0, 6, 0, 0))
    both.add_row(
        Text(say("terminal.nearest_all"), style="dim"),
        Text(say("terminal.nearest_others"), style="dim"),
    )
    both.add_row(_neighbours(found.nearest, inputs), _neighbours(found.nearest_others, inputs))
    console.print(both)


def _neighbours(found: Sequence[Neighbour], inputs: set[str]) -> Table:
    table = columns("", "", right=(1,))
    for at, neighbour in enumerate(found):
        given = neighbour.word.lower() in inputs
        style = "dim" if given else "bold green" if at == 0 else ""
        table.add_row(Text(marked(neighbour.word), style=style), f"{neighbour.similarity:.4f}")
    return table


def draw_comparison(
    console: Console, say: Say, rows: Sequence[Cost], counts: Mapping[str, int]
) -> None:
    """What each vocabulary needs for a word and for a Chinese character."""
    heads = [
        "terminal.name",
        "terminal.kind",
        "terminal.vocabulary",
        "terminal.per_word",
        "terminal.per_character",
    ]
    table = columns(
        *map(say, heads), *([say("terminal.this_text")] if counts else []), right=(2, 3, 4, 5)
    )
    for row in rows:
        cells = [row.kind, whole(row.vocab_size), f"{row.per_word:.2f}", f"{row.per_character:.2f}"]
        table.add_row(
            Text(row.name, style="bold"), *cells, *([whole(counts[row.name])] if counts else [])
        )
    console.print(table)
    if rows:
        words, characters = rows[0].english_words, rows[0].chinese_characters
        console.print()
        paragraph(console, say("terminal.sample", words=words, characters=characters), style="dim")


def draw_score(console: Console, say: Say, scored: Score) -> None:
    """Perplexity, bits per byte, and how it was measured."""
    table = columns("", "", right=(1,))
    table.add_row(say("terminal.perplexity"), Text(f"{scored.perplexity:,.3f}", style="bold green"))
    if scored.bits_per_byte is not None:
        table.add_row(say("terminal.bits_per_byte"), f"{scored.bits_per_byte:.4f}")
    table.add_row(say("terminal.tokens"), whole(scored.nll.size + 1))
    table.add_row(say("terminal.file_bytes"), whole(scored.total_bytes or 0))
    if scored.impossible.size:
        table.add_row(say("terminal.impossible"), whole(scored.impossible.size))
    console.print(table)
    console.print(
        Text(
            "\n" + say("terminal.windows", window=scored.window, stride=scored.stride), style="dim"
        )
    )
