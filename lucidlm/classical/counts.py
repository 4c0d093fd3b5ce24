"""How often each run of up to n words occurs in a text, in sorted arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lucidlm.errors import LucidError

Integers = NDArray[np.int64]
HIGHEST_ORDER = 100


@dataclass(frozen=True, eq=False)
class Level:
    """The distinct m-grams: `keys[i]` is (index of the first m-1 words) * vocab + last word.

    Keys ascend, so the words that follow one context lie side by side.
    """

    keys: Integers
    counts: Integers


@dataclass(frozen=True, eq=False)
class NGramCounts:
    """`levels[m - 1]` holds the m-grams, m = 1 ... order. The empty context is index 0."""

    vocab_size: int
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        return len(self.levels)

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]], vocab_size: int, order: int) -> Self:
        """Count the m-grams inside each of `sequences`; none reaches from one into the next.

        Raises LucidError for an impossible order, no words at all, or an id outside the vocabulary.
        """
        if not 1 <= order <= HIGHEST_ORDER:
            raise LucidError("classical.bad_order", order=order, highest=HIGHEST_ORDER)
        rows = [row for row in sequences if len(row)]
        ids = np.fromiter(chain.from_iterable(rows), np.int64)
        if not len(ids):
            raise LucidError("classical.no_text")
        for id in (ids.min(), ids.max()):
            if not 0 <= id < vocab_size:
                raise LucidError("classical.id_outside", id=int(id), size=vocab_size)
        lengths = np.array([len(row) for row in rows])
        behind = np.repeat(lengths.cumsum(), lengths) - np.arange(
            len(ids)
        )  # words from here to the end
        starts, nodes, levels = np.arange(len(ids)), np.zeros(len(ids), np.int64), []
        for size in range(1, order + 1):
            inside = behind[starts] >= size
            starts, nodes = starts[inside], nodes[inside]
            joined = nodes * vocab_size + ids[starts + size - 1]
            keys, nodes, counts = np.unique(joined, return_inverse=True, return_counts=True)
            levels.append(Level(keys, counts.astype(np.int64)))
        return cls(vocab_size, tuple(levels))

    def find(self, ids: Sequence[int]) -> int | None:
        """The index of an m-gram, m <= order; None if it never occurred."""
        node = 0
        for level, id in zip(self.levels, ids, strict=False):
            key = node * self.vocab_size + id
            node = int(np.searchsorted(level.keys, key))
            if node == len(level.keys) or level.keys[node] != key:
                return None
        return node

    def following(self, context: Sequence[int]) -> slice:
        """Where the m-grams `context` + one word lie on their level; empty if there are none."""
        node = self.find(context)
        if node is None:
            return slice(0, 0)
        bounds = np.array([node, node + 1]) * self.vocab_size
        first, last = np.searchsorted(self.levels[len(context)].keys, bounds)
        return slice(int(first), int(last))

    def words(self, size: int, where: slice) -> Integers:
        """The last word of each of these m-grams of `size` words."""
        return self.levels[size - 1].keys[where] % self.vocab_size

    def predecessors(self) -> list[Integers]:
        """For every m-gram with m < order, how many different words come before it.

        The beginning of a sequence is one more such word: there, the m-gram occurs more often than
        all (m+1)-grams that end in it. Raises ValueError if these counts are of no text.
        """
        shorter = np.zeros(len(self.levels[0].keys), np.int64)  # index without the first word
        kinds = []
        for level, above in zip(self.levels, self.levels[1:], strict=False):
            parents, words = np.divmod(above.keys, self.vocab_size)
            wanted = shorter[parents] * self.vocab_size + words
            shorter = np.searchsorted(level.keys, wanted)
            if not np.array_equal(level.keys[np.minimum(shorter, len(level.keys) - 1)], wanted):
                raise ValueError("an n-gram's end is missing")
            inner = np.bincount(shorter, weights=above.counts, minlength=len(level.keys))
            kinds.append(np.bincount(shorter, minlength=len(level.keys)) + (level.counts > inner))
        return kinds

    def check(self) -> None:
        """Raise ValueError unless keys ascend and name what exists, and counts are positive."""
        above = 1
        for level in self.levels:
            keys, counts = level.keys, level.counts
            if keys.ndim != 1 or keys.shape != counts.shape or keys.dtype != counts.dtype:
                raise ValueError("keys and counts differ in shape")
            if keys.dtype != np.int64 or above * self.vocab_size >= 1 << 62:
                raise ValueError("keys and counts are not 64-bit integers")
            if len(keys) and (keys[0] < 0 or keys[-1] >= above * self.vocab_size):
                raise ValueError("a key names nothing")
            if (keys[1:] <= keys[:-1]).any():
                raise ValueError("keys do not ascend")
            if (counts < 1).any() or counts.sum(dtype=np.float64) >= 1 << 53:
                raise ValueError("a count is impossible")
            above = len(keys)
        if not len(self.levels[0].keys):
            raise ValueError("there are no words")
