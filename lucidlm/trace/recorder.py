"""An engine that remembers: it runs another one and keeps what passes its taps.

Whoever drives it (the decoding loop, beam search) sees an engine like any other. What belongs to
which sequence follows from the cache: its rows know which passes read them, also where a row left
the batch or a beam took another's place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lucidlm.engine import Cache, Engine, Floats, ForwardContext, Ids
from lucidlm.trace.edits import BoundEdit
from lucidlm.trace.site import Site
from lucidlm.trace.store import Store

Call = Callable[[Sequence[Ids], ForwardContext], Floats]  # a method of an engine


@dataclass(frozen=True, eq=False, slots=True)
class Pass:
    """One call of the engine: rows read `counts` new positions each, from `starts` on."""

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    values: Mapping[str, Any]  # as the engine tapped them, the batch first
    seconds: float


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """What one row read in one pass; `before` is what it had read until then."""

    before: Node | None
    step: Pass
    row: int
    ids: tuple[int, ...]

    def chain(self) -> list[Node]:
        """From the first pass to this one."""
        found: list[Node] = []
        node: Node | None = self
        while node is not None:
            found.append(node)
            node = node.before
        return found[::-1]


@dataclass(eq=False)
class RecordedCache:
    """The engine's own cache, and which passes each row was read in."""

    inner: Cache
    nodes: list[Node | None]
    sources: list[Node | None]

    @property
    def lengths(self) -> list[int]:
        return self.inner.lengths

    def select(self, rows: Sequence[int]) -> Self:
        nodes, sources = ([list_[row] for row in rows] for list_ in (self.nodes, self.sources))
        return type(self)(self.inner.select(rows), nodes, sources)

    def fork(self) -> Self:
        return self.select(range(len(self.nodes)))

    def truncate(self, length: int) -> None:
        raise AssertionError("a recorded run does not go back")


class Recorder:
    """Runs `engine`, keeps the sites in `keep` of every pass, and applies `edits`."""

    def __init__(
        self,
        engine: Engine,
        sites: Mapping[str, Site],
        keep: frozenset[str],
        edits: Sequence[BoundEdit],
        store: Store,
    ) -> None:
        self.engine, self.catalogue, self.store = engine, sites, store
        self.vocab_size, self.max_positions = engine.vocab_size, engine.max_positions
        self.dtype, self.rounding = engine.dtype, engine.rounding
        self.leaves: list[tuple[Node, Node | None]] = []  # the last pass of each row, its source's
        self._keep = {(a.rpartition(".")[0], a.rpartition(".")[2]): a for a in keep}
        self._edits: dict[tuple[str, str], list[BoundEdit]] = {}
        for edit in edits:
            path, _, name = edit.site.address.rpartition(".")
            self._edits.setdefault((path, name), []).append(edit)

    @property
    def sites(self) -> Sequence[str]:
        return self.engine.sites

    def cache(self, rows: int) -> RecordedCache:
        return RecordedCache(self.engine.cache(rows), [None] * rows, [None] * rows)

    def encode(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        vectors, done = self._run(self.engine.encode, ids, [0] * len(ids), ctx)
        nodes = [Node(None, done, row, tuple(new)) for row, new in enumerate(ids)]
        if isinstance(ctx.cache, RecordedCache):
            ctx.cache.sources = list(nodes)
        else:
            self.leaves += [(node, None) for node in nodes]
        return vectors

    def step(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        cache = ctx.cache if isinstance(ctx.cache, RecordedCache) else None
        starts = [0] * len(ids) if cache is None else list(cache.lengths)
        logits, done = self._run(self.engine.step, ids, starts, ctx)
        nothing: list[Node | None] = [None] * len(ids)
        before, sources = (nothing, nothing) if cache is None else (cache.nodes, cache.sources)
        nodes = [
            Node(old, done, row, tuple(new))
            for row, (old, new) in enumerate(zip(before, ids, strict=True))
        ]
        if cache is not None:
            cache.nodes = list(nodes)
        self.leaves = self._ended(before) + list(zip(nodes, sources, strict=True))
        return logits

    def replay(self, part: str, inputs: Any, ctx: ForwardContext) -> Floats:
        return self.engine.replay(part, inputs, ctx)

    def weight(self, address: str) -> NDArray[np.floating]:
        return self.engine.weight(address)

    def _ended(self, before: Sequence[Node | None]) -> list[tuple[Node, Node | None]]:
        """The leaves that nothing in this pass goes on from."""
        going = {id(node) for node in before}
        return [leaf for leaf in self.leaves if id(leaf[0]) not in going]

    def _run(
        self, call: Call, ids: Sequence[Ids], starts: Sequence[int], ctx: ForwardContext
    ) -> tuple[Floats, Pass]:
        counts = [len(row) for row in ids]
        watch = _Watch(self._keep, self._edits, starts, counts, ctx)
        inner = ctx.cache.inner if isinstance(ctx.cache, RecordedCache) else ctx.cache
        begun = time.perf_counter()
        output = call(ids, replace(ctx, cache=inner, tracer=watch))
        seconds = time.perf_counter() - begun
        if "head.logits" not in self.catalogue and call == self.engine.step:
            watch.kept["head.logits"] = output[:, None]  # no Transformer: nothing taps them
        longest = max(start + count for start, count in zip(starts, counts, strict=True))
        values = self.store.put(watch.kept, longest)
        return output, Pass(tuple(starts), tuple(counts), values, seconds)


class _Watch:
    """The tracer of one pass."""

    def __init__(
        self,
        keep: Mapping[tuple[str, str], str],
        edits: Mapping[tuple[str, str], Sequence[BoundEdit]],
        starts: Sequence[int],
        counts: Sequence[int],
        ctx: ForwardContext,
    ) -> None:
        self.keep, self.edits = keep, edits
        self.starts, self.counts = starts, counts
        self.outer = ctx.tracer
        self.all_positions = ctx.every_position
        self.kept: dict[str, Any] = {}

    def __call__(self, path: str, name: str, value: Any) -> Any:
        key = (path, name)
        if self.edits and key in self.edits:  # this is run at every site of every pass
            value = self.change(path, name, value, *self._place(path))
        return self.seen(path, name, value)

    # For an engine that wants to know beforehand, and lets values be changed row by row:

    @property
    def looks_at(self) -> frozenset[tuple[str, str]] | None:
        """The sites that are to be shown; None for all of them."""
        return None if self.outer is not None else frozenset(self.keep)

    @property
    def changes(self) -> frozenset[tuple[str, str]]:
        """The sites that `change` is to be asked about."""
        return frozenset(self.edits)

    def change(
        self, path: str, name: str, value: Any, starts: Sequence[int], counts: Sequence[int]
    ) -> Any:
        """`value` of rows that read `counts` new positions from `starts` on, as it is edited."""
        for edit in self.edits[path, name]:
            value = edit.apply(value, starts, counts)
        return value

    def seen(self, path: str, name: str, value: Any) -> Any:
        """Keep a value that is edited already."""
        address = self.keep.get((path, name))
        if address is not None:
            self.kept[address] = value
        return value if self.outer is None else self.outer(path, name, value)

    def _place(self, path: str) -> tuple[Sequence[int], Sequence[int]]:
        """Which positions a tap of `path` shows. The head sees each row's last one alone, unless
        every position was asked for.
        """
        if path.startswith("head") and not self.all_positions:
            lasts = [s + c - 1 for s, c in zip(self.starts, self.counts, strict=True)]
            return lasts, [1] * len(lasts)
        return self.starts, self.counts
