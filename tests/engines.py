"""Tiny deterministic engines in NumPy, and a decoder, for tests of what drives an engine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from lucidlm.engine import EXACT, Floats, ForwardContext, Ids


@dataclass
class ToyCache:
    """The ids read so far by row, and each row's source vector."""

    rows: list[list[int]]
    memory: list[Any] = field(default_factory=list)

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self.rows]

    def select(self, rows: Sequence[int]) -> Self:
        return type(self)(
            [list(self.rows[r]) for r in rows], [self.memory[r] for r in rows if self.memory]
        )

    def fork(self) -> Self:
        return self.select(range(len(self.rows)))

    def truncate(self, length: int) -> None:
        for row in self.rows:
            del row[length:]


class ToyEngine:
    """A random recurrent network: state' = tanh(W state + E[id]), logits = O state'.

    Every logit depends on every id before it and on their order, and not on what else is in the
    batch or how the row was cut into steps. An encoder's memory is the mean of its source's
    embeddings, and the state before the first id.
    """

    sites: Sequence[str] = ()
    dtype = "float64"
    rounding = EXACT

    def __init__(self, vocab_size: int = 12, max_positions: int = 64, seed: int = 0) -> None:
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        rng = np.random.default_rng(seed)
        self.recurrence = rng.standard_normal((8, 8)) / 2
        self.embedding = rng.standard_normal((vocab_size, 8))
        self.output = rng.standard_normal((8, vocab_size)) * 2
        self.reads: list[list[int]] = []  # tokens by row, for each step

    def cache(self, rows: int) -> ToyCache:
        return ToyCache([[] for _ in range(rows)])

    def encode(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        if isinstance(ctx.cache, ToyCache):
            ctx.cache.memory = [self.embedding[list(row)].mean(axis=0) for row in ids]
        return self._padded([self.embedding[list(row)] for row in ids])

    def step(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        assert all(len(row) for row in ids), "a step takes at least one token of each row"
        cache = ctx.cache if isinstance(ctx.cache, ToyCache) else self.cache(len(ids))
        assert len(ids) == len(cache.rows)
        self.reads.append([len(row) for row in ids])
        logits = []
        for r, (new, row) in enumerate(zip(ids, cache.rows, strict=True)):
            row.extend(new)
            assert len(row) <= self.max_positions
            memory = cache.memory[r] if cache.memory else np.zeros(8)
            logits.append(self.logits(row, memory)[-len(new) :])
        if ctx.every_position:
            return self._padded(logits)
        return np.stack([row[-1] for row in logits]).astype(np.float32)

    def logits(self, row: Sequence[int], memory: Any) -> Any:
        """(len(row), vocab), in float64."""
        state, states = memory, []
        for id in row:
            state = np.tanh(self.recurrence @ state + self.embedding[id])
            states.append(state)
        return np.stack(states) @ self.output

    def replay(self, part: str, inputs: Any, ctx: ForwardContext) -> Floats:
        raise NotImplementedError

    def weight(self, address: str) -> Any:
        raise KeyError(address)

    def _padded(self, rows: Sequence[Any]) -> Floats:
        whole = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), np.float32)
        for r, row in enumerate(rows):
            whole[r, : len(row)] = row
        return whole


class TableEngine(ToyEngine):
    """The next token depends on the last alone: `table[id]` are its logits, -inf allowed."""

    def __init__(self, table: Any, max_positions: int = 64) -> None:
        self.table = np.asarray(table, np.float64)
        super().__init__(len(self.table), max_positions)

    def logits(self, row: Sequence[int], memory: Any) -> Any:
        return self.table[list(row)]


class Script(TableEngine):
    """Id i is followed by i + 1, and the last by 0."""

    def __init__(self, length: int, max_positions: int = 64) -> None:
        table = np.zeros((length, length))
        table[np.arange(length), (np.arange(length) + 1) % length] = 5
        super().__init__(table, max_positions)


class Pieces:
    """A decoder by list: token `id` stands for `pieces[id]`."""

    lead_space = False

    def __init__(self, pieces: Sequence[bytes], special: Collection[int] = ()) -> None:
        self.pieces = pieces
        self.special = special

    def is_special(self, id: int) -> bool:
        return id in self.special

    def bytes_of(self, id: int) -> bytes:
        return self.pieces[id]


def letters(size: int) -> Pieces:
    """`size` tokens: a, b, c, ..."""
    return Pieces([chr(ord("a") + i).encode() for i in range(size)])
