"""From counts to probabilities: three ways to treat what the text did not contain.

c(h w) is how often word w followed the context h, V the size of the vocabulary. At the beginning of
a text, where fewer than order - 1 words are known, h is what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lucidlm.classical.counts import Integers, NGramCounts

Probabilities = NDArray[np.float64]

# for texts too small to tell: what KenLM's --discount_fallback takes
FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])


class Smoothing(Protocol):
    def probabilities(self, context: Sequence[int]) -> Probabilities:
        """P(w | context) for every word, (vocab,); `context` has at most order - 1 words."""
        ...


class MaximumLikelihood:
    """P(w | h) = c(h w) / sum_v c(h v): what was not seen is impossible.

    A context that was never seen leaves 0/0; then its longest end that was seen takes its place.
    """

    def __init__(self, counts: NGramCounts) -> None:
        self.counts = counts

    def probabilities(self, context: Sequence[int]) -> Probabilities:
        where = self.counts.following(context)
        while where.start == where.stop:
            context = context[1:]
            where = self.counts.following(context)
        p = np.zeros(self.counts.vocab_size)
        seen = self.counts.levels[len(context)].counts[where]
        p[self.counts.words(len(context) + 1, where)] = seen / seen.sum()
        return p


class AddK:
    """P(w | h) = (c(h w) + k) / (sum_v c(h v) + k V): Lidstone 1920; Laplace where k = 1."""

    def __init__(self, counts: NGramCounts, k: float) -> None:
        self.counts, self.k = counts, k

    def probabilities(self, context: Sequence[int]) -> Probabilities:
        where = self.counts.following(context)
        seen = self.counts.levels[len(context)].counts[where]
        p = np.full(self.counts.vocab_size, self.k)
        p[self.counts.words(len(context) + 1, where)] += seen
        p /= seen.sum() + self.k * self.counts.vocab_size
        return p


class KneserNey:
    """Interpolated modified Kneser-Ney (Kneser & Ney 1995; Chen & Goodman 1999, section 3).

        P(w | h) = (c(h w) - D(c(h w)) + sum_v D(c(h v)) * P(w | h')) / sum_v c(h v)

    h' is h without its first word; below the empty context stands 1 / V. For the full order c is
    the count, below it the number of different words seen before h w. D takes three values, for
    c = 1, c = 2 and c > 2, estimated for each order from how many n-grams have c = 1, 2, 3 and 4.
    A context that was never seen is passed over: P(w | h) = P(w | h').
    """

    def __init__(self, counts: NGramCounts) -> None:
        self.counts = counts
        self.kinds = [*counts.predecessors(), counts.levels[-1].counts]
        self.discounts = [discounts(kinds) for kinds in self.kinds]
        self.unigram = self._refine(np.full(counts.vocab_size, 1 / counts.vocab_size), [])

    def probabilities(self, context: Sequence[int]) -> Probabilities:
        p = self.unigram.copy()
        for start in range(len(context) - 1, -1, -1):
            p = self._refine(p, context[start:])
        return p

    def _refine(self, p: Probabilities, context: Sequence[int]) -> Probabilities:
        """P(. | context) from p = P(. | the context without its first word), in place."""
        where = self.counts.following(context)
        if where.start == where.stop:
            return p
        c, table = self.kinds[len(context)][where], self.discounts[len(context)]
        held_back = table[np.minimum(c, 3)]
        p *= held_back.sum() / c.sum()
        p[self.counts.words(len(context) + 1, where)] += (c - held_back) / c.sum()
        return p


def discounts(counts: Integers) -> Probabilities:
    """0, D(1), D(2), D(3 and more): D(i) = i - (i + 1) Y n[i+1] / n[i], Y = n1 / (n1 + 2 n2).

    n[i] is the number of n-grams counted i times (Chen & Goodman 1999, section 3).
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)
    if not n[1:5].all():
        return FALLBACK
    i = np.arange(1, 4)
    estimate = i - (i + 1) * (n[1] / (n[1] + 2 * n[2])) * n[2:5] / n[1:4]
    return (
        np.concatenate([[0.0], estimate]) if ((estimate >= 0) & (estimate <= i)).all() else FALLBACK
    )
