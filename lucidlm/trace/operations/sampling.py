"""From logits to one chosen id: every stage again, in float64 from the recorded stage before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lucidlm.generate.sampling import Sampled, generator
from lucidlm.reference import equations
from lucidlm.trace.operations.attention import spread
from lucidlm.trace.operations.base import Computed, Doubles, Values, cell

Row = tuple[Doubles, Doubles]  # a stage of one choice, and its magnitude

NEAR = 64 * float(np.finfo(np.float32).eps)  # shares nearer than this may fall on either side
ROWS_SEARCHED = 1024  # of a batch, for the one whose seed gave a draw


@dataclass(frozen=True)
class Choice:
    """The token at `position`, and one candidate for it."""

    values: Values
    position: int
    word: int = -1

    @cached_property
    def sampled(self) -> Sampled:
        return self.values.sampled(self.position)

    @property
    def start(self) -> int:
        """Position of the first token that was chosen."""
        return self.values.start("sampling.id")

    @cached_property
    def chosen(self) -> int:
        """The id that the sequence goes on with."""
        return int(self.values.read("sampling.id")[self.position - self.start])

    @cached_property
    def said(self) -> Counter[int]:
        """How often each id was generated before."""
        return Counter(map(int, self.values.read("ids")[self.start : self.position]))

    @cached_property
    def seen(self) -> frozenset[int]:
        """Every id before."""
        return frozenset(map(int, self.values.read("ids")[: self.position]))

    def at(self, stage: str, word: int | None = None) -> str:
        """The address of a stage's cell, for this word or another."""
        place = [("position", self.position)]
        if stage not in ("draw", "id"):
            place.append(("word", self.word if word is None else word))
        return cell(f"sampling.{stage}", *place)


def compute(values: Values, stage: str, head: str | None) -> Computed:
    """A stage of every choice."""
    start = values.start("sampling.id")
    positions = range(start, start + len(values.read("sampling.id")))
    choices = [Choice(values, position) for position in positions]
    if stage == "draw":
        return Computed(_draws(choices), None)
    if stage == "id":
        return _ids(choices)
    if stage == "logits":
        before = [position - 1 for position in positions]
        rows = values.read(head)[before] if head else [c.sampled.logits for c in choices]
        return Computed(equations.wide(rows), None)
    found = [ROWS[stage](choice) for choice in choices]
    return Computed(np.stack([row[0] for row in found]), np.stack([row[1] for row in found]))


def _penalised(choice: Choice) -> Row:
    sampled, settings = choice.sampled, choice.sampled.settings
    value = equations.wide(sampled.logits).copy()
    if sampled.forced is not None:
        value[:] = -np.inf
        value[sampled.forced] = 0.0
        return value, np.zeros_like(value)
    if settings.repetition_penalty != 1:
        for id in choice.seen:
            down = settings.repetition_penalty ** (1 if value[id] < 0 else -1)
            value[id] *= down
    magnitude = np.abs(value)
    for id, count in choice.said.items():
        for lower in (settings.frequency_penalty * count, settings.presence_penalty):
            value[id] -= lower
            magnitude[id] += abs(lower)
    for id, bias in settings.logit_bias.items():
        value[id] += bias
        magnitude[id] += abs(bias)
    value[list(settings.suppressed)] = -np.inf
    return value, np.where(np.isfinite(value), magnitude, 0.0)


def _scaled(choice: Choice) -> Row:
    temperature = choice.sampled.settings.temperature or 1.0
    value = equations.wide(choice.sampled.penalised) / temperature
    return value, np.where(np.isfinite(value), np.abs(value), 0.0)


def _kept(choice: Choice) -> Row:
    """1 or 0; where it hangs by a rounding error the magnitude is infinite."""
    settings, scaled = choice.sampled.settings, equations.wide(choice.sampled.scaled)
    kept = scaled > -np.inf
    unsure = np.zeros(scaled.shape, bool)
    if settings.temperature == 0 or choice.sampled.forced is not None:
        return kept.astype(float), np.zeros_like(scaled)
    order = np.argsort(-scaled, kind="stable")
    if settings.top_k:
        kept[order[settings.top_k :]] = False
        order = order[: settings.top_k]
    weights = np.exp(scaled - scaled[order[0]])
    if settings.top_p < 1:
        mass = np.cumsum(weights[order])
        before = np.concatenate(([0.0], mass[:-1])) / mass[-1]
        out = before >= settings.top_p
        kept[order[out]] = False
        edge = weights[order[~out][-1]]  # of equals in float32 the lower ids stay
        near = np.abs(before - settings.top_p) < NEAR
        unsure[order] |= near | (np.abs(weights[order] - edge) <= NEAR * edge)
    if settings.min_p > 0:
        kept[weights < settings.min_p] = False
        unsure |= np.abs(weights - settings.min_p) < NEAR * settings.min_p
    unsure &= scaled > -np.inf
    return kept.astype(float), np.where(unsure, np.inf, 0.0)


def _probabilities(choice: Choice) -> Row:
    scores = np.where(choice.sampled.kept, equations.wide(choice.sampled.scaled), -np.inf)
    return equations.softmax(scores), spread(scores)


def _cdf(choice: Choice) -> Row:
    cdf = np.cumsum(choice.sampled.probabilities)
    return cdf, cdf


ROWS: dict[str, Callable[[Choice], Row]] = {
    "penalised": _penalised,
    "scaled": _scaled,
    "kept": _kept,
    "probabilities": _probabilities,
    "cdf": _cdf,
}


def _draws(choices: list[Choice]) -> Doubles:
    """The row's own random numbers again where there was a seed; NaN where nothing is drawn."""
    draws = [choice.sampled.draw for choice in choices]
    recorded = np.array([np.nan if draw is None else draw for draw in draws])
    seed = choices[0].sampled.settings.seed if choices else None
    if seed is None or draws[0] is None:
        return recorded
    row = find_row(seed, 1, draws[0]) or 0
    return generator(seed, row).random(len(draws))


def find_row(seed: int, count: int, draw: float) -> int | None:
    """The row of a batch whose `count`-th random number is `draw`."""
    rows = range(ROWS_SEARCHED)
    return next((r for r in rows if generator(seed, r).random(count)[-1] == draw), None)


def _ids(choices: list[Choice]) -> Computed:
    """The first id whose cdf exceeds the random number, or the highest; what a beam search took
    instead does not follow from one choice alone, and may be any id.
    """
    ids, free = np.zeros(len(choices)), np.zeros(len(choices))
    for n, choice in enumerate(choices):
        sampled = choice.sampled
        if sampled.draw is not None:
            ids[n] = np.flatnonzero(sampled.cdf > sampled.draw)[0]
        else:
            ids[n] = np.argmax(sampled.penalised)
            free[n] = np.inf if choice.chosen != ids[n] else 0.0
    return Computed(ids, free)
