"""The reference behind the `Engine` protocol: a model that runs with NumPy alone, slowly and
exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from lucidlm.config import Config
from lucidlm.engine import EXACT, Floats, ForwardContext, Ids, Tracer
from lucidlm.parameters import parameters
from lucidlm.reference.equations import Doubles, Numbers, wide
from lucidlm.reference.forward import Forward, Past, Run


@dataclass
class PastCache:
    """What each row has read."""

    rows: list[Past]

    @property
    def lengths(self) -> list[int]:
        return [past.length for past in self.rows]

    def select(self, rows: Sequence[int]) -> Self:
        return type(self)([self.rows[row].copy() for row in rows])

    def fork(self) -> Self:
        return self.select(range(len(self.rows)))

    def truncate(self, length: int) -> None:
        for past in self.rows:
            past.length = min(past.length, length)


class Reference:
    """The whole model in float64 on one thread's NumPy. `ctx.attend` is not for it: it has one
    kernel. Nothing is kept between calls but the weights.
    """

    def __init__(self, config: Config, weights: Iterable[tuple[str, Numbers]]) -> None:
        """From (address, array) for every parameter. Arrays stay as they are, in their own type,
        and each is widened when it is used.
        """
        self.config = config
        self.weights = dict(weights)
        shapes = {address: array.shape for address, array in self.weights.items()}
        assert shapes == parameters(config), "weights of another config"
        self.forward = Forward(config, self.weights)
        self.vocab_size = config.vocab_size
        self.max_positions = config.max_positions
        self.dtype, self.rounding = "float64", EXACT

    def cache(self, rows: int) -> PastCache:
        return PastCache([Past() for _ in range(rows)])

    def encode(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        assert self.config.encoder is not None, "no encoder"
        rows = zip(ids, self._segments(ids, ctx), strict=True)
        vectors = _together([self.forward.encode(row, kinds) for row, kinds in rows], ctx.tracer)
        if isinstance(ctx.cache, PastCache) and self.config.decoder is not None:
            for past, memory in zip(ctx.cache.rows, vectors, strict=True):
                past.memory = memory
                past.looked_at.clear()
        return _padded(vectors).astype(np.float32)

    def step(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        pasts = ctx.cache.rows if isinstance(ctx.cache, PastCache) else _fresh(len(ids), ctx)
        rows = zip(ids, self._segments(ids, ctx), pasts, strict=True)
        runs = [self._logits(row, kinds, past, ctx.every_position) for row, kinds, past in rows]
        logits = _padded(_together(runs, ctx.tracer)).astype(np.float32)
        return logits if ctx.every_position else logits[:, 0]

    def replay(self, part: str, inputs: Any, ctx: ForwardContext) -> Floats:
        x = np.asarray(inputs)
        rows = zip(x, self._segments(x, ctx), _fresh(len(x), ctx), strict=True)
        runs = [self._part(part, row, kinds, past) for row, kinds, past in rows]
        return _padded(_together(runs, ctx.tracer)).astype(np.float32)

    def weight(self, address: str) -> Numbers:
        return self.weights[address]

    @cached_property
    def sites(self) -> Sequence[str]:
        """The names seen when one position runs through each stack, in order of computation."""
        seen: dict[str, None] = {}

        def note(path: str, name: str, value: Doubles) -> Doubles:
            seen[f"{path}.{name}"] = None
            return value

        ctx = ForwardContext(tracer=note, cache=self.cache(1))
        if self.config.encoder is not None:
            self.encode([[0]], ctx)
        if self.config.head is not None:
            self.step([[0]], ctx)
        return list(seen)

    def _logits(self, ids: Ids, segments: Ids, past: Past, every_position: bool) -> Run:
        """One row through the stack that ends in the head, and the head."""
        if self.config.decoder is None:
            x = yield from self.forward.encode(ids, segments)
        else:
            x = yield from self.forward.decode(ids, segments, past)
        return (yield from self.forward.head(x if every_position else x[-1:]))

    def _part(self, part: str, row: Any, segments: Ids, past: Past) -> Run:
        """One row through one part of the model, from position 0."""
        stacks = list(self.config.stacks)
        name = next((name for name in stacks if part.startswith(f"{name}.")), stacks[0])
        inner = part.removeprefix(f"{name}.")
        if inner == "embedding":
            return self.forward.embedding(name, row, segments)
        if inner.startswith("layers."):
            number = int(inner.removeprefix("layers."))
            return self.forward.layer(name, number, wide(row), past)
        if inner == "final_norm":
            return self.forward.final_norm(name, wide(row))
        ends = {"head": self.forward.head, "pooler": self.forward.pooler}
        return ends[inner](wide(row))

    def _segments(self, ids: Any, ctx: ForwardContext) -> Sequence[Ids]:
        """Token types by row: the first one where nothing is said."""
        return [[0] * len(row) for row in ids] if ctx.segments is None else ctx.segments


def _fresh(rows: int, ctx: ForwardContext) -> list[Past]:
    """Rows that have read nothing, with what of the encoder they look at: `ctx.memory`, or the
    cache's.
    """
    memories: Iterable[Doubles | None] = [None] * rows
    if ctx.memory is not None:
        memories = map(wide, ctx.memory)
    elif isinstance(ctx.cache, PastCache):
        memories = [past.memory for past in ctx.cache.rows]
    return [Past(memory=memory) for memory in memories]


def _together(runs: Sequence[Run], tracer: Tracer | None) -> list[Doubles]:
    """Every row's result. The rows go side by side, and `tracer` sees what they have at one site
    as one array (rows, ...).
    """
    results: list[Doubles] = []
    back: Sequence[Any] = [None] * len(runs)
    while True:
        passing: list[tuple[str, Doubles]] = []
        for run, value in zip(runs, back, strict=True):
            try:
                passing.append(run.send(value))
            except StopIteration as end:  # all rows end at once: they are of one model
                results.append(end.value)
        if results:
            return results
        address, values = passing[0][0], [value for _, value in passing]
        back = values if tracer is None else _shown(tracer, address, values)


def _shown(tracer: Tracer, address: str, values: Sequence[Doubles]) -> list[Doubles]:
    """What `tracer` gives back for the rows' values."""
    path, _, name = address.rpartition(".")
    given = wide(tracer(path, name, _padded(values)))
    return [row[_corner(value)] for row, value in zip(given, values, strict=True)]


def _padded(rows: Sequence[Doubles]) -> Doubles:
    """Arrays of as many axes, one under the other, with zeros behind the end of the shorter."""
    longest = np.max([row.shape for row in rows], axis=0)
    whole = np.zeros((len(rows), *longest))
    for place, row in zip(whole, rows, strict=True):
        place[_corner(row)] = row
    return whole


def _corner(row: Doubles) -> tuple[slice, ...]:
    """Where an array of this shape begins in a larger one."""
    return tuple(map(slice, row.shape))
