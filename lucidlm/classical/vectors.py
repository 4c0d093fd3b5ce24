"""Words as vectors, and what their arithmetic shows: king - man + woman (Mikolov et al. 2013).

Nearness is the cosine of the angle between two vectors.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from lucidlm.classical import vector_files
from lucidlm.classical.expression import Term, parse
from lucidlm.classical.words import spelled_like
from lucidlm.engine import Floats
from lucidlm.errors import CheckpointError, LucidError, UnknownName


@dataclass(frozen=True)
class Neighbour:
    word: str
    similarity: float  # cosine, -1 to 1


@dataclass(frozen=True, kw_only=True)
class Analogy:
    """The words nearest to a sum: all of them, and all but the words that were put in.

    The first list often begins with an input: the sum lies close to what it started from.
    """

    terms: tuple[Term, ...]
    nearest: tuple[Neighbour, ...]
    nearest_others: tuple[Neighbour, ...]


class WordVectors:
    """One vector for each word: `matrix` is (words, dim) float32 and may lie on disk."""

    def __init__(self, words: Sequence[str], matrix: Floats) -> None:
        assert len(words) == len(matrix), "one vector for each word"
        self.words, self.matrix = words, np.asarray(matrix)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """From a folder with words.txt and vectors.npy, or a text file in GloVe or word2vec form.

        Raises CheckpointError when the file is damaged or holds something else.
        """
        return cls(*vector_files.read(Path(path)))

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def __contains__(self, word: str) -> bool:
        return self._find(word) is not None

    def vector(self, word: str) -> Floats:
        """A word's vector (dim,), of its lower-case form where only that is known."""
        row: Floats = self.matrix[self._index(word)]
        return row

    def nearest(
        self, vector: ArrayLike, n: int = 10, exclude: Collection[str] = ()
    ) -> tuple[Neighbour, ...]:
        """The `n` words whose vectors point most nearly the way of `vector` (dim,), best first.

        Raises LucidError for a vector of another length, of zeros, or with values not finite.
        """
        direction = np.asarray(vector, np.float32)
        if direction.shape != (self.dim,) or not np.isfinite(direction).all():
            raise LucidError("classical.vector_shape", dim=self.dim)
        out = [self._index(word) for word in exclude]
        return self._best(self._similarities(direction), n, out)

    def analogy(self, expression: str, n: int = 10) -> Analogy:
        """The words nearest to a sum such as "king - man + woman".

        Raises UnknownName for a word without a vector, LucidError for a sum that cannot be read.
        """
        terms = parse(expression, self.__contains__)
        total = np.sum([term.sign * self.vector(term.word) for term in terms], axis=0)
        similarities = self._similarities(total)
        inputs = [self._index(term.word) for term in terms]
        return Analogy(
            terms=tuple(terms),
            nearest=self._best(similarities, n, ()),
            nearest_others=self._best(similarities, n, inputs),
        )

    @cached_property
    def norms(self) -> Floats:
        """The length of each vector, (words,). Raises CheckpointError for values that have none."""
        norms: Floats = np.sqrt(np.einsum("ij,ij->i", self.matrix, self.matrix))
        if not np.isfinite(norms).all():
            raise CheckpointError("classical.vectors_not_finite")
        return norms

    @cached_property
    def _rows(self) -> dict[str, int]:
        rows = reversed(list(enumerate(self.words)))  # of equal words the first shall stay
        return {word: row for row, word in rows}

    def _find(self, word: str) -> int | None:
        return self._rows.get(word, self._rows.get(word.lower()))

    def _index(self, word: str) -> int:
        row = self._find(word)
        if row is None:
            like = spelled_like(word.lower(), self.words)
            raise UnknownName("classical.unknown_vector", word, like)
        return row

    def _similarities(self, vector: Floats) -> Floats:
        """Cosine with every word, (words,); 0 for a word whose own vector is zeros."""
        length = float(np.linalg.norm(vector))
        if length == 0:
            raise LucidError("classical.zero_vector")
        like = np.zeros_like(self.norms)
        np.divide(self.matrix @ (vector / length), self.norms, out=like, where=self.norms > 0)
        return like

    def _best(self, similarities: Floats, n: int, out: Iterable[int]) -> tuple[Neighbour, ...]:
        if type(n) is not int or n < 1:
            raise LucidError("classical.bad_neighbours", n=n)
        ranked = similarities.copy()
        ranked[list(out)] = -np.inf
        n = min(n, int(np.isfinite(ranked).sum()))
        top = np.argpartition(-ranked, n - 1)[:n] if n else np.array([], np.int64)
        order = top[np.lexsort((top, -ranked[top]))]
        return tuple(Neighbour(self.words[row], float(ranked[row])) for row in order)
