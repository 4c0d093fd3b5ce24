"""The native model behind the `Engine` protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lucidlm.backends.native.sites import (
    NativeSite,
    Sites,
    head_sites,
    pooler_sites,
    ragged,
    stack_sites,
)
from lucidlm.backends.native.specification import Weights, specification
from lucidlm.backends.native.watching import Watching, show
from lucidlm.config import Config
from lucidlm.engine import Floats, ForwardContext, Ids, Rounding
from lucidlm.hardware import here
from lucidlm.stored import Stored

FORMATS = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")


class NativeCache:
    """Rows of what the native module remembers. A row is never written to by two caches."""

    def __init__(self, sequences: list[Any]) -> None:
        self.sequences = sequences
        self.memory: list[int] = []  # positions of the encoder, by row
        self.has_news = False  # keys and values of the encoder's that no step has shown yet

    @property
    def lengths(self) -> list[int]:
        return [sequence.length for sequence in self.sequences]

    def select(self, rows: Sequence[int]) -> Self:
        chosen = type(self)([self.sequences[row].fork() for row in rows])
        chosen.memory = [self.memory[row] for row in rows] if self.memory else []
        chosen.has_news = self.has_news
        return chosen

    def fork(self) -> Self:
        return self.select(range(len(self.sequences)))

    def truncate(self, length: int) -> None:
        for sequence in self.sequences:
            sequence.truncate(length)


class NativeEngine:
    """A model on the CPU's own instructions. Threads may share it; steps take turns.

    `threads` None is one for each core; `instructions` "" the best that the processor has.
    """

    dtype = "float32"

    def __init__(
        self,
        config: Config,
        weights: Iterable[tuple[str, Stored]],
        *,
        threads: int | None = None,
        instructions: str = "",
    ) -> None:
        self.config = config
        self.vocab_size, self.max_positions = config.vocab_size, config.max_positions
        self._module: Any = import_module("lucidlm.backends._native")
        threads = threads or here().cores
        formats: dict[str, str] = {}
        self._weights = _taken(weights, self._module, threads, formats)
        spec = specification(config, self._weights)
        self._model = self._module.model(spec, threads, instructions)
        self.rounding = MappingProxyType(dict(self._rounded(formats)))

    @property
    def instructions(self) -> str:
        """The instruction set that it computes with."""
        found: str = self._model.instructions
        return found

    @property
    def weight_bytes(self) -> int:
        """What its matrices take in memory: a token reads nearly all of it."""
        return sum(matrix.nbytes for matrix in self._weights.matrices.values())

    @cached_property
    def sites(self) -> Sequence[str]:
        """In order of computation."""
        found = [site.address for stack in self._stacks.values() for site in stack.all]
        at = len(list(self._stacks["encoder"].all)) if self.config.encoder is not None else 0
        found[at:at] = [site.address for site in pooler_sites(self.config)]
        return [*found, *(site.address for site in self._head)]

    def cache(self, rows: int) -> NativeCache:
        return NativeCache([self._module.Sequence() for _ in range(rows)])

    def encode(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        rows = [list(row) for row in ids]
        found = ragged(self._encoded(rows, ctx, words=False), [len(row) for row in rows])
        if isinstance(ctx.cache, NativeCache) and self.config.decoder is not None:
            for sequence, row, vectors in zip(ctx.cache.sequences, rows, found, strict=True):
                self._model.remember(sequence, np.ascontiguousarray(vectors[: len(row)]))
            ctx.cache.memory = [len(row) for row in rows]
            ctx.cache.has_news = True
        return found

    def step(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        rows = [list(row) for row in ids]
        counts = [len(row) for row in rows]
        if self.config.decoder is None:
            flat = self._encoded(rows, ctx, words=True)
            if ctx.every_position:
                return ragged(flat, counts)
            return np.ascontiguousarray(flat[np.cumsum(counts) - 1])
        cache = ctx.cache if isinstance(ctx.cache, NativeCache) else self.cache(len(rows))
        starts = cache.lengths
        lasts = [start + count - 1 for start, count in zip(starts, counts, strict=True)]
        head = (counts, starts) if ctx.every_position else ([1] * len(rows), lasts)
        every = ctx.every_position

        def call(watch: Any) -> Floats:
            found: Floats = self._model.step(cache.sequences, rows, every, watch)
            return found

        flat = self._watched("decoder", call, ctx, counts, starts, head, max(lasts) + 1, cache)
        return ragged(flat, counts) if every else flat

    def replay(self, part: str, inputs: Any, ctx: ForwardContext) -> Floats:
        encodes = self.config.decoder is None or part.startswith("encoder.")
        name = part.removeprefix("encoder.").removeprefix("decoder.")
        array = np.asarray(inputs)
        rows, length = array.shape[:2]
        flat = np.ascontiguousarray(array.reshape(rows * length, *array.shape[2:]), np.float32)
        cache: NativeCache | None = None
        match name.split("."):
            case ["embedding"]:
                ids = array.tolist()
                segments = [] if ctx.segments is None else [list(row) for row in ctx.segments]
                call = lambda watch: self._model.embed_again(encodes, ids, segments, watch)  # noqa: E731
            case ["layers", number]:
                memory = None
                if ctx.memory is not None:
                    looked_at = np.asarray(ctx.memory, np.float32)
                    memory = np.ascontiguousarray(looked_at.reshape(-1, looked_at.shape[-1]))
                    cache = self._remembering(looked_at)
                call = lambda watch: self._model.layer_again(  # noqa: E731
                    encodes, int(number), flat, rows, memory, watch
                )
            case ["final_norm"]:
                call = lambda watch: self._model.norm_again(encodes, flat, watch)  # noqa: E731
            case ["head"]:
                call = lambda watch: self._model.head_again(flat, watch)  # noqa: E731
            case ["pooler"]:
                return self._pooled(array[:, 0].astype(np.float32), ctx)
            case _:
                raise KeyError(part)
        counts, starts = [length] * rows, [0] * rows
        which = "encoder" if encodes else "decoder"
        head = (counts, starts)
        found = self._watched(which, call, ctx, counts, starts, head, length, cache, (part,))
        return found.reshape(rows, length, -1)

    def weight(self, address: str) -> NDArray[np.floating]:
        if address in self._weights.vectors:
            return self._weights.vectors[address]
        found: NDArray[np.floating] = self._weights.matrices[address].floats()
        return found

    def _rounded(self, formats: Mapping[str, str]) -> Iterator[tuple[str, Rounding]]:
        """Which matrices want what they are multiplied with rounded."""
        for address, format in formats.items():
            if address.startswith("pooler.") or format in ("F32", "F16"):
                continue
            if format != "BF16":
                yield address, "int8"
            elif self._model.rounds_to_bfloat16:
                yield address, "bfloat16"

    def _encoded(self, rows: list[list[int]], ctx: ForwardContext, *, words: bool) -> Floats:
        """Every position's last vector, or logits."""
        segments = [] if ctx.segments is None else [list(row) for row in ctx.segments]
        counts, starts = [len(row) for row in rows], [0] * len(rows)
        pools = self.config.pooler and ctx.tracer is not None
        vectors: Any = None

        def call(watch: Any) -> Floats:
            nonlocal vectors
            wanted = pools or not words
            vectors, logits = self._model.encode(rows, segments, wanted, words, watch)
            found: Floats = logits if words else vectors
            return found

        def pool() -> None:
            if pools:
                self._pooled(vectors[np.cumsum([0, *counts[:-1]])], ctx)

        head = (counts, starts)
        parts = ("", "head") if words else ("",)
        return self._watched(
            "encoder", call, ctx, counts, starts, head, max(counts), parts=parts, between=pool
        )

    def _watched(
        self,
        stack: str,
        call: Callable[[Any], Floats],
        ctx: ForwardContext,
        counts: Sequence[int],
        starts: Sequence[int],
        head: tuple[Sequence[int], Sequence[int]],
        keys: int,
        cache: NativeCache | None = None,
        parts: Sequence[str] = ("", "head"),
        between: Callable[[], None] = lambda: None,
    ) -> Floats:
        """`call`, and what a tracer wants of it. `parts` are those that it computes ("" the whole
        stack); `between` is done when what comes before the head has been shown.
        """
        if ctx.tracer is None:
            return call(None)
        there = self._stacks[stack]
        sites: list[NativeSite] = []
        for part in parts:
            known = self._head if part == "head" else there.all
            sites += [site for site in known if not part or site.address.startswith(f"{part}.")]
        watching = Watching(
            self._module,
            len(there.layers),
            sites,
            ctx.tracer,
            counts=counts,
            starts=starts,
            head=head,
            keys=keys,
            memory=max(cache.memory, default=0) if cache is not None else 0,
        )
        try:
            found = call(watching.native)
        finally:
            watching.native.release()
        watching.show(head=False)
        if cache is not None and cache.has_news:
            cache.has_news = False
            for site, value in self._remembered(cache, sites):
                show(ctx.tracer, site, value)
        between()
        watching.show(head=True)
        return found

    def _remembering(self, memory: Floats) -> NativeCache:
        """A cache whose rows look at `memory` (rows, length, dim)."""
        cache = self.cache(len(memory))
        for sequence, vectors in zip(cache.sequences, memory, strict=True):
            self._model.remember(sequence, np.ascontiguousarray(vectors))
        cache.memory, cache.has_news = [memory.shape[1]] * len(memory), True
        return cache

    def _remembered(
        self, cache: NativeCache, sites: Iterable[NativeSite]
    ) -> Iterator[tuple[NativeSite, Floats]]:
        """Cross-attention's keys and values, (rows, heads, longest, head_dim)."""
        for site in sites:
            if site.number is None and site.path.endswith("cross_attention"):
                layer = int(site.path.split(".")[-2])
                shape = (len(cache.memory), site.heads, max(cache.memory), site.width)
                value = np.zeros(shape, np.float32)
                for row, sequence in enumerate(cache.sequences):
                    both = self._model.memory(sequence, layer)
                    own = both[site.name == "value"].reshape(site.heads, -1, site.width)
                    value[row, :, : own.shape[1]] = own
                yield site, value

    def _pooled(self, first: Floats, ctx: ForwardContext) -> Floats:
        """tanh(dense(first vectors (rows, dim))), which nothing but a watcher reads."""
        matrix, bias = self.weight("pooler.dense.weight"), self.weight("pooler.dense.bias")
        projected = np.stack([matrix @ vector + bias for vector in first])  # a row alone: same bits
        pooled: Floats = np.tanh(projected).astype(np.float32)
        if ctx.tracer is not None:
            for site, value in zip(pooler_sites(self.config), (projected, pooled), strict=True):
                show(ctx.tracer, site, value)
        return pooled

    @cached_property
    def _stacks(self) -> dict[str, Sites]:
        return {name: stack_sites(self.config, name, self._module) for name in self.config.stacks}

    @cached_property
    def _head(self) -> list[NativeSite]:
        return head_sites(self.config, self._module)


def _taken(
    weights: Iterable[tuple[str, Stored]], module: Any, threads: int, formats: dict[str, str]
) -> Weights:
    """Matrices into the native module, their formats into `formats` by address; vectors, and tables
    that are looked up alone, as arrays.
    """
    matrices: dict[str, Any] = {}
    vectors: dict[str, NDArray[np.floating]] = {}
    arena = module.Arena(threads)
    for address, stored in weights:
        looked_up = address.rpartition("embedding.")[2] in ("positions.weight", "segments.weight")
        if len(stored.shape) != 2:
            vectors[address] = stored.data.view(np.float32).reshape(stored.shape).copy()
            continue
        matrix = module.matrix(arena, stored.format, stored.data, *stored.shape, stored.order)
        if looked_up or "position_bias" in address:
            vectors[address] = matrix.floats()
        else:
            formats[address] = stored.format
            matrices[address] = matrix
    return Weights(matrices, vectors)
