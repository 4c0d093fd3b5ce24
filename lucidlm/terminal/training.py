"""A training run as it goes on: a live panel on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.text import Text

from lucidlm.terminal.show import bar, harmless, marked, paragraph, percent, short, size, whole
from lucidlm.train.events import (
    Event,
    Exported,
    Preparing,
    Ready,
    Sampled,
    Saved,
    Stepped,
    Stopping,
)

if TYPE_CHECKING:
    from rich.console import Console

    from lucidlm.train.corpus import Report
    from lucidlm.train.estimate import Memory
    from lucidlm.train.loop import Outcome, Plan

Say = Callable[..., str]
SPARKS = "▁▂▃▄▅▆▇█"
WIDTH = 32  # columns of the bar and of the sparkline
LINES = 40  # that a run writes where there is no terminal
INTERVAL = 0.1  # seconds between pictures
RECENT = 20  # steps that speed is the mean of
SAMPLE = 160  # characters of a sample in the panel


class Watching:
    """What a run tells, on `console`: a context whose end leaves the last picture standing."""

    def __init__(
        self, console: Console, say: Say, lang: str, *, live: bool, quiet: bool = False
    ) -> None:
        self.console, self.say, self.lang, self.quiet = console, say, lang, quiet
        self.live = Live(console=console, auto_refresh=False) if live and not quiet else None
        self.panel: Panel | None = None
        self.stage = ""
        self.drawn = 0.0  # when a picture was last drawn

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.live is not None:
            if self.panel is not None:
                self.live.update(self.panel.picture())
            self.live.stop()

    def __call__(self, event: Event) -> None:
        if self.quiet:
            return
        match event:
            case Preparing():
                self._preparing(event)
            case Ready():
                self.panel = Panel(event, self.say)
                self._begin(event)
            case Stepped():
                self._stepped(event)
            case Sampled():
                self._sampled(event)
            case Stopping():
                self._line(self.say("training.stopping", signal=event.signal))
            case Saved() | Exported():
                pass  # what is told at the end, or looked up in the folder
        if self.live is not None and self.panel is not None:
            if not isinstance(event, Stepped) or self._is_time():
                self.live.update(self.panel.picture(), refresh=True)

    def _is_time(self) -> bool:
        """Whether a picture is due: a fast run has more steps than anyone sees."""
        now = time.monotonic()
        due = now - self.drawn > INTERVAL
        self.drawn = now if due else self.drawn
        return due

    def _preparing(self, event: Preparing) -> None:
        label = self.say(f"training.stage_{event.stage}")
        if self.live is not None:
            self.live.update(Text(f"{label} {percent(event.share)}", style="dim"), refresh=True)
        elif event.stage != self.stage:
            self._line(label)
        self.stage = event.stage

    def _begin(self, ready: Ready) -> None:
        for sentence in ready.report.sentences(self.lang):
            self._line(sentence)
        said = {
            "name": ready.name,
            "device": ready.device.upper(),
            "parameters": short(ready.parameters),
        }
        self._line(self.say("training.begins", **said, needed=size(ready.memory.needed)))
        if ready.start:
            self._line(self.say("training.goes_on", step=whole(ready.start)))

    def _stepped(self, event: Stepped) -> None:
        assert self.panel is not None
        self.panel.take(event)
        every = max(1, self.panel.steps // LINES)
        due = event.step % every == 0 or event.step in (1, self.panel.steps)
        if self.live is None and (due or event.held_out is not None):
            done, *left = self.panel.progress()
            self._line(
                "  ".join([done, *self.panel.loss(event.held_out), self.panel.speed(), *left])
            )

    def _sampled(self, event: Sampled) -> None:
        assert self.panel is not None
        self.panel.sample = (event.prompt, event.text)
        if self.live is None:
            self._line(f"  {marked(event.prompt)} → {marked(event.text)}")

    def _line(self, sentence: str) -> None:
        self.console.print(Text(harmless(sentence), style="dim"), soft_wrap=self.live is None)


class Panel:
    """Where a run stands, in figures and a line."""

    def __init__(self, ready: Ready, say: Say) -> None:
        self.ready, self.say, self.steps = ready, say, ready.steps
        self.step = ready.start
        self.held_out: float | None = None
        self.losses: list[float] = []
        self.recent: deque[Stepped] = deque(maxlen=RECENT)
        self.sample: tuple[str, str] | None = None

    def take(self, event: Stepped) -> None:
        """One step more."""
        self.step = event.step
        self.losses.append(event.loss)
        self.recent.append(event)
        if event.held_out is not None:
            self.held_out = event.held_out

    def progress(self) -> list[str]:
        """Steps done, and the time that is left."""
        seconds = sum(event.seconds for event in self.recent) / max(1, len(self.recent))
        done = self.say("training.step", step=whole(self.step), steps=whole(self.steps))
        if self.step == self.steps:
            return [done]
        left = duration((self.steps - self.step) * seconds, self.say)
        return [done, self.say("training.left", time=left)]

    def loss(self, held_out: float | None) -> list[str]:
        """The last step's loss, and the held-out one."""
        found = [self.say("training.loss", loss=f"{self.losses[-1]:.3f}")]
        if held_out is not None:
            found.append(self.say("training.held_out", loss=f"{held_out:.3f}"))
        return found

    def speed(self) -> str:
        """Of the last steps, also as a share of what matrix products could be."""
        seconds = sum(event.seconds for event in self.recent)
        rate = sum(event.tokens for event in self.recent) / seconds if seconds else 0.0
        share = rate * self.ready.flops_per_token / self.ready.peak_flops
        return self.say("training.speed", rate=whole(rate), share=percent(share))

    def picture(self) -> Text:
        """The panel as it is now."""
        if not self.losses:
            return Text(self.say("training.first_step"), style="dim")
        gap = "   "
        drawn = Text()
        drawn.append(f"{bar(self.step / self.steps, WIDTH):<{WIDTH}}  ", "cyan")
        drawn.append(gap.join(self.progress()) + "\n", "bold")
        drawn.append(f"{sparkline(self.losses, WIDTH):<{WIDTH}}  ", "green")
        drawn.append(gap.join(self.loss(self.held_out)) + "\n", "bold")
        drawn.append(self.speed(), "dim")
        if self.sample is not None:
            prompt, text = (marked(part) for part in self.sample)
            drawn.append(f"\n{prompt}", "dim").append(text[:SAMPLE])
        return drawn


def sparkline(values: Sequence[float], columns: int) -> str:
    """A row of blocks, each as high as the mean of its share of `values`, which are at least
    one.
    """
    count = min(columns, len(values))
    cuts = [round(at * len(values) / count) for at in range(count + 1)]
    means = [fmean(values[a:b]) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    top = len(SPARKS) - 1
    return "".join(SPARKS[round((mean - low) / (high - low) * top) if high > low else 0]
                   for mean in means)  # fmt: skip


def duration(seconds: float, say: Say) -> str:
    """About how long: 40 s, 12 min, 3 h 5 min."""
    if seconds < 60:
        return say("training.seconds", seconds=round(seconds))
    minutes = round(seconds / 60)
    if minutes < 60:
        return say("training.minutes", minutes=minutes)
    return say("training.hours", hours=minutes // 60, minutes=minutes % 60)


def draw_plan(console: Console, say: Say, lang: str, plan: Plan) -> None:
    """What a run would take, before it is begun."""
    report: Report = plan.report
    for sentence in report.sentences(lang):
        paragraph(console, sentence)
    console.print()
    share = plan.tokens_per_second * plan.flops_per_token / plan.peak_flops
    rows = {
        "parameters": whole(plan.parameters),
        "memory": _memory(plan.memory, say),
        "rate": say("training.speed", rate=whole(plan.tokens_per_second), share=percent(share)),
        "time": duration(plan.seconds, say),
    }
    for name, value in rows.items():
        console.print(Text(say(f"training.plan_{name}", steps=whole(plan.steps)), style="dim"))
        console.print(Text(f"  {value}"))


def draw_outcome(console: Console, say: Say, outcome: Outcome) -> None:
    """How a run ended, and what can be done now."""
    said = {"step": whole(outcome.steps), "folder": outcome.folder}
    if outcome.loss is not None:
        held_out = "-" if outcome.held_out is None else f"{outcome.held_out:.3f}"
        losses = {"loss": f"{outcome.loss:.3f}", "held_out": held_out}
        rate = {"rate": whole(outcome.tokens_per_second), "tokens": short(outcome.tokens)}
        took = duration(outcome.seconds, say)
        paragraph(console, say("training.learnt", **losses, **rate, time=took, **said))
    if outcome.model is None:
        paragraph(console, say("training.stopped", **said))
    else:
        console.print(Text(say("training.exported", folder=outcome.model)), soft_wrap=True)


def _memory(memory: Memory, say: Say) -> str:
    free = "?" if memory.free is None else size(memory.free)
    return say(
        "training.memory",
        needed=size(memory.needed),
        state=size(memory.weights + memory.gradients + memory.optimiser),
        activations=size(memory.activations),
        free=free,
    )
