"""The six stages of one new word, drawn: input vector, attention, add & norm, feed-forward, output
vector, the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from lucidlm.generate import Sampled, Step
from lucidlm.generate.sampling import REASONS
from lucidlm.terminal.show import (
    bar,
    columns,
    labelled,
    marked,
    number,
    paragraph,
    percent,
    vector,
    whole,
)
from lucidlm.terminal.steps import LayerStages, Link, Stages, Vector, spread

if TYPE_CHECKING:
    from rich.console import Console

TOP = 8  # words with a bar of their own
LAYERS = 6  # shown unless more are asked for
NARROW = 100  # columns, below which fewer values of a vector are shown

Say = Callable[..., str]


@dataclass(frozen=True)
class Word:
    """A new word: its step, its stages, and every token so far as it reads."""

    step: Step
    stages: Stages | None
    labels: Sequence[str]  # of the tokens before it and, last, its own
    source: Sequence[str]  # of what an encoder read
    options: Sequence[str]  # of all candidates that `step.sampled.alternatives(TOP)` gives


class Drawing:
    """Draws words on a console, in a language."""

    def __init__(self, console: Console, say: Say, layers: Sequence[int] | None) -> None:
        self.console, self.say, self.layers = console, say, layers
        self.values, self.units = (3, 1) if console.width < NARROW else (5, 2)

    def word(self, word: Word) -> None:
        """All there is to see about one new word."""
        title = self.say(
            "terminal.word", index=word.step.index + 1, token=labelled(word.labels[-1])
        )
        self.console.print()
        self.console.print(Rule(Text(title, style="bold cyan"), align="left", style="cyan"))
        if word.stages is None:
            self.console.print(Text(self.say("terminal.no_sites"), style="dim"))
        else:
            self.input(word, word.stages)
            self.attention(word, word.stages)
            self.add_norm(word.stages)
            self.feedforward(word.stages)
            self.output(word.stages)
        self.probabilities(word)
        self.choice(word)

    def input(self, word: Word, stages: Stages) -> None:
        position = word.step.position - 1
        self.heading(1, "terminal.stage_input")
        token = labelled(word.labels[position])
        self.line(self.say("terminal.input_token", token=token, position=position))
        self.line(self.described(stages.input))

    def attention(self, word: Word, stages: Stages) -> None:
        self.heading(2, "terminal.stage_attention", self.shown(stages))
        for layer in self.chosen(stages):
            self.links(layer.layer, layer.links, word.labels)
        if any(layer.source_links for layer in stages.layers):
            self.line(self.say("terminal.source_links"))
            for layer in self.chosen(stages):
                self.links(layer.layer, layer.source_links, word.source)

    def links(self, layer: int, links: Sequence[Link], labels: Sequence[str]) -> None:
        line = Text(f"  {self.layer(layer)} ")
        for link in links:
            line.append("  ").append(labelled(labels[link.position]), style="green")
            line.append(f"·{link.position}", style="dim")
            line.append(f" {link.weight:.2f}").append(
                self.say("terminal.head", head=link.head), style="dim"
            )
        self.console.print(line)

    def add_norm(self, stages: Stages) -> None:
        self.heading(3, "terminal.stage_add_norm", self.shown(stages))
        heads = (
            "terminal.layer",
            "terminal.before",
            "terminal.attention_adds",
            "terminal.sum",
            "terminal.normed",
        )
        table = columns(*map(self.say, heads), right=(1, 2, 3))
        for layer in self.chosen(stages):
            lengths = (layer.before, layer.attention_added, layer.sum)
            table.add_row(
                str(layer.layer), *(number(v.length) for v in lengths), self.first(layer.normed)
            )
            if layer.source_added is not None and layer.source_sum is not None:
                source = (layer.source_added, layer.source_sum)
                table.add_row(
                    self.say("terminal.source"), "", *(number(v.length) for v in source), ""
                )
        self.console.print(Padding.indent(table, 2))

    def feedforward(self, stages: Stages) -> None:
        self.heading(4, "terminal.stage_feedforward", self.shown(stages))
        units = self.say("terminal.strongest", units=whole(stages.layers[0].units))
        heads = map(self.say, ("terminal.adds", "terminal.length_after", "terminal.after"))
        table = columns(self.say("terminal.layer"), units, *heads, right=(2, 3))
        for layer in self.chosen(stages):
            table.add_row(
                str(layer.layer),
                "  ".join(
                    f"#{unit.index} {number(unit.value)}" for unit in layer.strongest[: self.units]
                ),
                number(layer.feedforward_added.length),
                number(layer.after.length),
                self.first(layer.after),
            )
        self.console.print(Padding.indent(table, 2))

    def output(self, stages: Stages) -> None:
        self.heading(5, "terminal.stage_output")
        self.line(self.described(stages.output))

    def probabilities(self, word: Word) -> None:
        """The likeliest words of the model's own distribution, and the sum of all the others."""
        sampled = word.step.sampled
        self.heading(
            6,
            "terminal.stage_probabilities",
            self.say("terminal.whole_vocabulary", size=whole(sampled.logits.size)),
        )
        changed = _changed(sampled)
        table = columns("", "", "", "", *([""] if changed else []), right=(2, 3, 4))
        room = max(10, min(50, self.console.width - (66 if changed else 52)))
        top = sampled.alternatives(TOP)
        for (id, share), option in zip(top, word.options, strict=True):
            style = "bold green" if id == word.step.id else ""
            table.add_row(
                Text(marked(option), style=style),
                Text(bar(share, room), style="cyan"),
                percent(share),
                self.say("terminal.logit", value=number(float(sampled.logits[id]))),
                *([self.after(sampled, id)] if changed else []),
            )
        others = sampled.logits.size - len(top)
        if others:
            rest = max(0.0, 1 - sum(share for _, share in top))
            label = Text(self.say("terminal.others", count=whole(others)), style="dim")
            after = 1 - sum(float(sampled.probabilities[id]) for id, _ in top) if changed else 0.0
            drawn = Text(bar(rest, room), style="dim")
            left = [f"→ {percent(max(0.0, after))}"] if changed else []
            table.add_row(label, drawn, percent(rest), "", *left)
        self.console.print(Padding.indent(table, 2))

    def after(self, sampled: Sampled, id: int) -> str:
        """What became of a candidate on its way through the sampler."""
        if (reason := sampled.cut_by(id)) is not None:
            return self.say("terminal.cut_one", reason=self.say(f"terminal.reason_{reason}"))
        return "→ " + percent(float(sampled.probabilities[id]))

    def choice(self, word: Word) -> None:
        """How the sampler came to its choice: what it changed, what it cut, the number it drew."""
        sampled, settings = word.step.sampled, word.step.sampled.settings
        token = labelled(word.labels[-1])
        if sampled.forced is not None:
            self.line(self.say("terminal.forced", token=token))
            return
        if sampled.penalised is not sampled.logits:
            changed = int((sampled.penalised != sampled.logits).sum())
            self.line(self.say("terminal.penalised", count=whole(changed)))
        if sampled.draw is None:
            self.line(self.say("terminal.greedy", token=token, id=word.step.id))
            return
        self.line(self.say("terminal.temperature", value=f"{settings.temperature:g}"))
        for reason, count in _cuts(sampled):
            self.line(
                self.say(
                    "terminal.cut", reason=self.say(f"terminal.reason_{reason}"), count=whole(count)
                )
            )
        high = float(sampled.cdf[word.step.id])
        low = high - float(sampled.probabilities[word.step.id])
        kept = whole(int(sampled.kept.sum()))
        self.line(self.say("terminal.kept", count=kept))
        self.line(
            self.say(
                "terminal.drawn",
                draw=f"{sampled.draw:.6f}",
                low=f"{low:.6f}",
                high=f"{high:.6f}",
                token=token,
            )
        )

    def heading(self, index: int, key: str, remark: str = "") -> None:
        line = Text(f"\n{index} ", style="bold cyan").append(self.say(key), style="bold")
        if remark:
            line.append(f"  {remark}", style="not bold dim")
        self.console.print(line)

    def line(self, sentence: str) -> None:
        paragraph(self.console, sentence, indent=2)

    def described(self, value: Vector) -> str:
        return self.say(
            "terminal.vector",
            size=value.size,
            first=vector(value.first).strip(),
            length=number(value.length),
        )

    def first(self, value: Vector) -> str:
        return vector(value.first[: self.values]) + " …"

    def layer(self, layer: int) -> str:
        return self.say("terminal.layer_number", layer=layer)

    def chosen(self, stages: Stages) -> list[LayerStages]:
        layers = spread(len(stages.layers), LAYERS) if self.layers is None else self.layers
        return [stages.layers[layer] for layer in layers]

    def shown(self, stages: Stages) -> str:
        """Says so when not every layer is shown."""
        shown, every = len(self.chosen(stages)), len(stages.layers)
        return "" if shown == every else self.say("terminal.some_layers", shown=shown, every=every)


def _changed(sampled: Sampled) -> bool:
    """Whether the choice was made from other probabilities than the model's own."""
    return sampled.draw is not None and (
        sampled.settings.temperature != 1
        or sampled.penalised is not sampled.logits
        or not sampled.kept.all()
    )


def _cuts(sampled: Sampled) -> list[tuple[str, int]]:
    """How many candidates each reason took out of the race."""
    counts = [
        (reason, int((sampled.reasons == at).sum()))
        for at, reason in enumerate(REASONS)
        if reason is not None
    ]
    return [(reason, count) for reason, count in counts if count]
