"""What was seen in a run, drawn: its sites, an explanation as a card, and what a check found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from lucidlm.terminal.show import harmless, paragraph, whole
from lucidlm.trace.words import label, number

if TYPE_CHECKING:
    from rich.console import Console

    from lucidlm.trace.explain import Explanation, TermOf
    from lucidlm.trace.site import Site
    from lucidlm.trace.verify import Verification
    from lucidlm.trace.why import Why

Say = Callable[..., str]
TERMS = 8  # of an explanation, with a line each
INNER_TERMS = 3  # of one inside another
WORST = 10  # sites of a check
INDENT = 3  # columns an inner explanation moves to the right
LAYER = re.compile(r"layers\.\d+\.")
LETTERS = {"positions": "T", "sources": "S"}  # for lengths that a run decides


def draw_sites(console: Console, say: Say, model: str, sites: Sequence[Site], lang: str) -> None:
    """Each kind of site with its axes and sizes; equal layers share a line."""
    kinds: dict[tuple[str, str, str], list[Site]] = {}
    for site in sites:
        axes = " × ".join(
            f"{axis} {LETTERS.get(str(size), size)}"
            for axis, size in zip(site.axes, site.sizes, strict=True)
        )
        folded = LAYER.sub("layers.*.", site.address)
        kinds.setdefault((folded, axes, site.key), []).append(site)
    console.print(Text(say("glass.sites", name=model, count=whole(len(sites))), style="bold"))
    for (folded, axes, key), alike in kinds.items():
        line = Text(alike[0].address if len(alike) == 1 else folded, style="green")
        if len(alike) > 1:
            line.append(f" ×{len(alike)}", style="not green dim")
        console.print(line.append(f"   {axes}", style="not dim not green"), soft_wrap=True)
        kind, about = alike[0].operation.kind, label(key, lang)
        derived = f", {say('glass.derived')}" if alike[0].derived else ""
        console.print(Text(f"    {about} ({kind}{derived})", style="dim"), soft_wrap=True)
    lengths = {size for site in sites for size in site.sizes}
    used: list[str] = [name for name in LETTERS if name in lengths]
    used += ["layers"] if any(len(alike) > 1 for alike in kinds.values()) else []
    if used:
        console.print()
        letters = say("glass.between").join(say(f"glass.letters_{name}") for name in used)
        paragraph(console, letters, style="dim")


def draw_explanation(
    console: Console, say: Say, found: Explanation, lang: str, stored: Mapping[str, str]
) -> None:
    """The number, its equation in letters and in numbers, its largest terms; inner ones behind it,
    indented. `stored` has the names of parameters in the model's own file.
    """
    for at, (depth, one) in enumerate(found.walk()):
        if at:
            console.print()
        card = _Card(console, say, lang, depth * INDENT)
        card.draw(one, INNER_TERMS if depth else TERMS)
        if one.cell.kind == "parameter" and one.cell.name in stored:
            card.prose(say("glass.stored", name=stored[one.cell.name]))


class _Card:
    """One explanation, `indent` columns from the left."""

    def __init__(self, console: Console, say: Say, lang: str, indent: int) -> None:
        self.console, self.say, self.lang, self.indent = console, say, lang, indent

    def draw(self, found: Explanation, terms: int) -> None:
        title = Text(found.address, style="bold cyan").append(" = ", style="not bold dim")
        self.line(title.append(number(found.value, self.lang), style="not dim bold green"))
        self.prose(found.words(self.lang))
        if found.worked is None:
            return
        self.line(Text(found.equation, style="yellow"))
        if found.expression:
            self.line(Text(found.expression))
        self.terms(found, terms)
        for name, value, address in found.steps:
            step = Text(f"{name} ", style="dim").append(number(value, self.lang), style="not dim")
            self.line(step.append(f"  {address}" if address else "", style="dim"))
        if (note := found.note(self.lang)) is not None:
            self.prose(note)
        self.verdict(found)

    def terms(self, found: Explanation, shown: int) -> None:
        rest = found.rest(shown)
        rows = [
            (number(term.value, self.lang), self.made(found, term)) for term in found.top(shown)
        ]
        if rest.count:
            others = self.say("glass.rest", count=whole(rest.count))
            rows.append((number(rest.sum, self.lang), [Text(others, style="dim")]))
        width = max((len(value) for value, _ in rows), default=0)
        for value, factors in rows:
            start = Text(f"  {value:>{width}}", style="green")
            joint = Text("  = " if len(factors) > 1 else "  ", style="dim")
            whole_line = Text(" · ", style="dim").join(factors)
            room = self.console.width - self.indent - width - 6
            for part in [whole_line] if whole_line.cell_len <= room else factors:
                self.line(Text().join([start, joint, part]))
                start, joint = Text(" " * (width + 2)), Text("  · ", style="dim")

    def made(self, found: Explanation, term: TermOf) -> list[Text]:
        """Each factor: its value, and where it was read; a single one has the term's own value, and
        a bare 1 changes nothing.
        """
        factors = [(address, value) for address, value in term.factors if address or value != 1]
        if len(factors) == 1 and (address := factors[0][0]):
            is_power = any(
                name == "exp" for name, _, _ in found.steps
            )  # a softmax: no value as read
            key = "glass.power" if is_power else "glass.from"
            return [Text(self.say(key, address=address), style="dim")]
        return [
            Text(number(value, self.lang)).append(f"  {address}" if address else "", style="dim")
            for address, value in factors
        ]

    def verdict(self, found: Explanation) -> None:
        seen = self.say("glass.seen" if found.seen else "glass.recomputed")
        values = {"total": found.total, "recorded": float(found.value or 0)}
        line = self.say(
            "glass.total",
            total=f"{values['total']:.9g}",
            recorded=f"{values['recorded']:.9g}",
            difference=f"{found.difference:.2g}",
            seen=seen,
        )
        mark = Text("✓ ", style="green") if found.agrees else Text("✗ ", style="bold red")
        self.line(mark.append(line, style="not bold dim" if found.agrees else ""))

    def prose(self, sentence: str) -> None:
        paragraph(
            self.console, harmless(sentence), first=" " * self.indent, indent=self.indent, style=""
        )

    def line(self, content: Text) -> None:
        self.console.print(Text(" " * self.indent).append_text(content), soft_wrap=True)


def draw_why(console: Console, found: Why, lang: str) -> None:
    """What made a probability, in sentences."""
    console.print()
    for sentence in found.words(lang):
        paragraph(console, harmless(sentence).replace(" %", "\u00a0%"))


def draw_verification(console: Console, say: Say, found: Verification) -> None:
    """The sites that came out worst, and the verdict."""
    worst = sorted(found.by_site, key=lambda check: (check.ok, -check.max_relative))[:WORST]
    if len(worst) < len(found.by_site):
        counts = {"shown": whole(len(worst)), "sites": whole(len(found.by_site))}
        console.print(Text(say("glass.worst_of", **counts)))
    heads = ("glass.values", "glass.absolute", "glass.relative", "glass.allowed")
    table = [["", *map(say, heads), say("glass.worst")]]
    for check in worst:
        allowed = say("glass.exact") if check.exact else f"{check.tolerance:.1e}"
        numbers = [f"{check.max_absolute:.1e}", f"{check.max_relative:.1e}", allowed]
        address = check.worst_address or check.address
        table.append(["✓" if check.ok else "✗", whole(check.values), *numbers, address])
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)][:-1]
    for row, style in zip(table, ["dim", *("" if c.ok else "red" for c in worst)], strict=True):
        cells = (" " * (w - cell_len(cell)) + cell for w, cell in zip(widths, row, strict=False))
        console.print(Text("  ".join([*cells, row[-1]]), style=style), soft_wrap=True)
    console.print()
    key = "glass.verified" if not found.failed else "glass.not_verified"
    values = {
        "values": whole(found.values),
        "sites": whole(found.sites),
        "positions": whole(found.positions),
        "failed": whole(found.failed),
    }
    verdict = say(key, **values)
    paragraph(console, verdict, style="bold red" if found.failed else "bold green")
    if found.edited:
        paragraph(console, say("glass.edited_count", count=whole(found.edited)), style="dim")
