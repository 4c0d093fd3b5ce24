"""What the readable engine remembers: each layer's keys and values, at the index of their absolute
position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


class KeyValueCache:
    """Keys and values by layer, each (B, KV, capacity, D), rows of different lengths.

    Position p of a row lives at index p, so no row is ever shifted and a mask needs positions
    alone. What stands behind a row's end is padding's leftovers: hidden by the mask, overwritten as
    the row grows.
    """

    def __init__(self, rows: int) -> None:
        self.lengths: list[int] = [0] * rows
        self.layers: dict[int, Pair] = {}
        self.memory: Tensor | None = None  # the encoder's output (B, S, dim)
        self.memory_lengths: list[int] = []
        self.cross: dict[int, Pair] = {}  # cross-attention's keys and values, by layer

    def update(self, slot: int, k: Tensor, v: Tensor, positions: Tensor) -> Pair:
        """Put k and v (B, KV, T, D) at `positions` (B, T); return everything read so far, (B, KV,
        S, D).
        """
        needed = max(self.lengths) + k.shape[2]
        if slot not in self.layers:
            # exactly the prompt's length at first; room to grow when there is growth
            self.layers[slot] = (_grown(None, k, needed), _grown(None, v, needed))
        if self.layers[slot][0].shape[2] < needed:
            keys, values = self.layers[slot]
            capacity = needed + needed // 2 + 64
            self.layers[slot] = (_grown(keys, k, capacity), _grown(values, v, capacity))
        keys, values = self.layers[slot]
        rows = torch.arange(k.shape[0], device=k.device)[:, None]
        keys[rows, :, positions] = k.transpose(1, 2)
        values[rows, :, positions] = v.transpose(1, 2)
        return keys[:, :, :needed], values[:, :, :needed]

    def advance(self, counts: Sequence[int]) -> None:
        """Row r has read `counts[r]` more positions."""
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def select(self, rows: Sequence[int]) -> Self:
        """These rows in this order, repeated or left out; shares nothing with this cache."""
        rows = list(rows)
        copy = type(self)(len(rows))
        copy.lengths = [self.lengths[row] for row in rows]
        copy.layers = {slot: (k[rows], v[rows]) for slot, (k, v) in self.layers.items()}
        copy.memory = None if self.memory is None else self.memory[rows]
        copy.memory_lengths = (
            [self.memory_lengths[row] for row in rows] if self.memory_lengths else []
        )
        copy.cross = {slot: (k[rows], v[rows]) for slot, (k, v) in self.cross.items()}
        return copy

    def fork(self) -> Self:
        return self.select(range(len(self.lengths)))

    def truncate(self, length: int) -> None:
        self.lengths = [min(length, old) for old in self.lengths]

    @property
    def nbytes(self) -> int:
        """Bytes held by keys and values, cross-attention's included."""
        pairs = [*self.layers.values(), *self.cross.values()]
        return sum(x.numel() * x.element_size() for pair in pairs for x in pair)


def _grown(old: Tensor | None, like: Tensor, capacity: int) -> Tensor:
    """`old` (B, KV, S, D) at the head of a new buffer of `capacity` positions."""
    batch, heads, _, dim = like.shape
    new = like.new_zeros(batch, heads, capacity, dim)
    if old is not None:
        new[:, :, : old.shape[2]] = old
    return new
