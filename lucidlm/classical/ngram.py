"""The n-gram language model: the next word from the last n - 1, by counting (Shannon 1948).

It is an `Engine`: token ids in, log-probabilities out, so whatever runs a Transformer runs it too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Self

import numpy as np

from lucidlm.classical.counts import HIGHEST_ORDER, Integers, Level, NGramCounts
from lucidlm.classical.smoothing import AddK, KneserNey, MaximumLikelihood, Probabilities, Smoothing
from lucidlm.classical.words import Split, Words
from lucidlm.engine import EXACT, Floats, ForwardContext, Ids
from lucidlm.errors import CheckpointError, LucidError
from lucidlm.files import write_atomic

SmoothingName = Literal["none", "add-k", "kneser-ney"]
FORMAT = "lucidlm-ngram-1"
LARGEST_K = 1e9


@dataclass
class NGramCache:
    """The words read so far, by row."""

    rows: list[list[int]]

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self.rows]

    def select(self, rows: Sequence[int]) -> NGramCache:
        return NGramCache([list(self.rows[row]) for row in rows])

    def fork(self) -> NGramCache:
        return self.select(range(len(self.rows)))

    def truncate(self, length: int) -> None:
        for row in self.rows:
            del row[length:]


class NGram:
    """A model of some order over a vocabulary; immutable once made.

    `smoothing` is "none" (maximum likelihood), "add-k" or "kneser-ney": see `classical.smoothing`.
    """

    max_positions = 2**31 - 1  # only the last few words count
    sites: Sequence[str] = ()
    dtype: str = "float32"

    def __init__(
        self,
        words: Words,
        counts: NGramCounts,
        smoothing: SmoothingName = "kneser-ney",
        k: float = 1.0,
    ) -> None:
        self.words, self.table = words, counts
        self.smoothing, self.k = smoothing, k
        self.rounding = EXACT
        self.vocab_size, self.order = counts.vocab_size, counts.order
        self._estimate = _estimator(counts, smoothing, k)

    @classmethod
    def train(
        cls,
        sequences: Iterable[Ids],
        words: Words,
        order: int,
        smoothing: SmoothingName = "kneser-ney",
        k: float = 1.0,
    ) -> Self:
        """Count `sequences` of ids, each for itself. `k` matters to "add-k" only."""
        return cls(words, NGramCounts.of(sequences, words.vocab_size, order), smoothing, k)

    @classmethod
    def from_text(
        cls,
        text: str,
        order: int,
        smoothing: SmoothingName = "kneser-ney",
        k: float = 1.0,
        split: Split = "word",
        max_words: int | None = None,
    ) -> Self:
        """Train on a text whose lines are sequences, with a vocabulary made of its own words."""
        words = Words.learn(text, split, max_words=max_words)
        return cls.train(words.encode_lines(text), words, order, smoothing, k)

    def counts(self, context: Ids) -> Integers:
        """How often each word followed the last order - 1 words of `context`, (vocab,)."""
        context = self._context(context)
        where = self.table.following(context)
        counts = np.zeros(self.vocab_size, np.int64)
        counts[self.table.words(len(context) + 1, where)] = self.table.levels[len(context)].counts[
            where
        ]
        return counts

    def probabilities(self, context: Ids) -> Probabilities:
        """P(w | the last order - 1 words of `context`) in float64, (vocab,)."""
        return self._estimate.probabilities(self._context(context))

    def cache(self, rows: int) -> NGramCache:
        return NGramCache([[] for _ in range(rows)])

    def step(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        """Logits are log-probabilities, -inf where one is 0; shapes as in `Engine.step`."""
        cache = ctx.cache if ctx.cache is not None else self.cache(len(ids))
        assert isinstance(cache, NGramCache), "another engine's cache"
        assert len(cache.rows) == len(ids) and all(len(row) for row in ids), "every row reads"
        longest = max(len(row) for row in ids)
        shape = (
            (len(ids), longest, self.vocab_size)
            if ctx.every_position
            else (len(ids), self.vocab_size)
        )
        logits = np.zeros(shape, np.float32)
        for out, row, new in zip(logits, cache.rows, ids, strict=True):
            start = len(row)
            row.extend(self._checked(new))
            if not ctx.every_position:
                out[:] = self._logits(row)
                continue
            for i in range(len(new)):
                out[i] = self._logits(row[max(0, start + i + 2 - self.order) : start + i + 1])
        return logits

    def encode(self, ids: Sequence[Ids], ctx: ForwardContext) -> NoReturn:
        raise LucidError("classical.no_encoder")

    def replay(self, part: str, inputs: Any, ctx: ForwardContext) -> NoReturn:
        raise LucidError("classical.no_layers", layer=part)

    def weight(self, address: str) -> NoReturn:
        raise KeyError(address)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write counts and vocabulary as one safetensors file, whole or not at all."""
        from safetensors import SafetensorError
        from safetensors.numpy import save

        target = Path(path)
        about = {
            "smoothing": self.smoothing,
            "k": self.k,
            "order": self.order,
            "words": self.words.to_json(),
        }
        arrays = {}
        for size, level in enumerate(self.table.levels, 1):
            arrays[f"keys.{size}"], arrays[f"counts.{size}"] = level.keys, level.counts
        try:
            write_atomic(target, save(arrays, {"format": FORMAT, "model": json.dumps(about)}))
        except (OSError, SafetensorError) as error:
            raise LucidError("classical.cannot_write", path=target, reason=error) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises CheckpointError for anything else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                return cls._read(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError("classical.bad_ngram", path=path, reason=error) from None
        except (LucidError, ValueError, TypeError, KeyError, RecursionError):
            raise CheckpointError("classical.damaged_ngram", path=path) from None

    @classmethod
    def _read(cls, file: Any) -> Self:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ValueError(metadata)
        about = json.loads(metadata["model"])
        words, order = Words.from_json(about["words"]), about["order"]
        if type(order) is not int or not 1 <= order <= HIGHEST_ORDER:
            raise ValueError(order)
        names = [(f"keys.{size}", f"counts.{size}") for size in range(1, order + 1)]
        levels = [Level(file.get_tensor(keys), file.get_tensor(counts)) for keys, counts in names]
        counts = NGramCounts(words.vocab_size, tuple(levels))
        counts.check()
        return cls(words, counts, about["smoothing"], about["k"])

    def _context(self, ids: Ids) -> list[int]:
        """The last order - 1 of some ids."""
        return self._checked(ids[max(0, len(ids) + 1 - self.order) :])

    def _checked(self, ids: Ids) -> list[int]:
        for id in ids:
            if not 0 <= id < self.vocab_size:
                raise LucidError("classical.id_outside", id=id, size=self.vocab_size)
        return [int(id) for id in ids]

    def _logits(self, context: Ids) -> Floats:
        with np.errstate(divide="ignore"):
            return np.log(self.probabilities(context)).astype(np.float32)


def _estimator(counts: NGramCounts, smoothing: str, k: float) -> Smoothing:
    if not isinstance(k, int | float) or not 0 < k <= LARGEST_K:
        raise LucidError("classical.bad_k", k=k, largest=LARGEST_K)
    if smoothing == "none":
        return MaximumLikelihood(counts)
    if smoothing == "kneser-ney":
        return KneserNey(counts)
    if smoothing == "add-k":
        return AddK(counts, k)
    raise LucidError("classical.bad_smoothing", name=smoothing)
