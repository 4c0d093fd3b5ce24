"""Batches out of a store: the index-th one depends on the seed and the index alone."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from lucidlm.train.batch import NO_LOSS, PADDING, Batch, Ints
from lucidlm.train.packing import Longs, Plan, epoch_documents, plan
from lucidlm.train.recipe import Recipe
from lucidlm.train.store import Store

PLANS = 2  # epochs whose plans are kept: a reader that runs ahead is in the next one
AHEAD = 8  # batches
HIDDEN, OTHER = 0.8, 0.9  # of the chosen tokens: masked; beyond: another word; the rest stay


@dataclass(frozen=True)
class Marks:
    """Ids that the objective needs: what a translation begins with; what hides a word, and which
    ids are never hidden.
    """

    start: int | None = None
    mask: int | None = None
    special: frozenset[int] = frozenset()
    vocab_size: int = 0


@dataclass(frozen=True, eq=False)
class Batches:
    """`recipe.batch` lines of `recipe.context` tokens each, epoch after epoch.

    `ranges[s]` are the documents of source s, each `repeats[s]` times in an epoch. An epoch has
    `len(self)` batches, the number of the first: what is left of a later one's last lines waits
    for another epoch. With `once` there is one epoch in a fixed order, its last batch filled up
    with padding.
    """

    store: Store
    recipe: Recipe
    ranges: Sequence[tuple[int, int]]
    repeats: Sequence[float]
    marks: Marks
    once: bool = False
    _plans: dict[int, Plan] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def documents(self) -> int:
        """Documents of an epoch."""
        sizes = (end - begin for begin, end in self.ranges)
        return round(sum(n * repeat for n, repeat in zip(sizes, self.repeats, strict=True)))

    @property
    def tokens(self) -> int:
        """Tokens of an epoch, sources included."""
        total = 0.0
        offsets = [self.store.offsets, self.store.source_offsets]
        for (begin, end), repeat in zip(self.ranges, self.repeats, strict=True):
            sides = (int(side[end] - side[begin]) for side in offsets if side is not None)
            total += repeat * sum(sides)
        return round(total)

    def __len__(self) -> int:
        lines, size = self.plan(0).lines, self.recipe.batch
        return max(1, -(-lines // size) if self.once else lines // size)

    def batch(self, index: int) -> Batch:
        """The index-th batch, from 0, over all epochs."""
        epoch, number = divmod(index, len(self))
        laid, size = self.plan(0 if self.once else epoch), self.recipe.batch
        rows = np.arange(number * size, (number + 1) * size)
        rows = np.where(rows < laid.lines, rows, -1) if self.once else rows % max(1, laid.lines)
        return self._filled(laid, rows, index)

    def plan(self, epoch: int) -> Plan:
        """Which document lies where in `epoch`."""
        with self._lock:
            if epoch not in self._plans:
                while len(self._plans) >= PLANS + 1:
                    later = [known for known in self._plans if known]
                    del self._plans[min(later)]
                self._plans[epoch] = self._planned(epoch)
            return self._plans[epoch]

    def _planned(self, epoch: int) -> Plan:
        recipe, store = self.recipe, self.store
        documents = epoch_documents(self.ranges, self.repeats, recipe.seed, epoch)
        if self.once:
            documents = np.sort(documents)
        lengths = np.diff(store.offsets)
        if recipe.objective == "next":
            lengths = np.maximum(lengths - 1, 0)  # the last id is guessed, and not read
        other = None
        if store.source_offsets is not None:
            other = store.source_offsets[:-1], np.diff(store.source_offsets)
        rng = np.random.default_rng([recipe.seed, 2, epoch])
        return plan(
            documents,
            store.offsets[:-1],
            lengths,
            recipe.context,
            rng,
            other=other,
            pack=recipe.data.pack,
        )

    def _filled(self, laid: Plan, rows: Longs, index: int) -> Batch:
        """The lines `rows` of a plan, -1 for an empty one, as arrays."""
        real = rows >= 0
        begin, end = laid.first[rows] * real, laid.first[rows + 1] * real
        pieces = _spans(begin, end - begin)
        line = np.repeat(np.arange(len(rows)), end - begin)
        place = laid.place[pieces]
        start, length, column = laid.start[pieces], laid.length[pieces], laid.column[pieces]
        shape = (len(rows), self.recipe.context)
        ids, targets = np.zeros(shape, np.int64), np.full(shape, NO_LOSS)
        positions, documents = np.zeros(shape, np.int64), np.full(shape, PADDING)
        at = _spans(line * shape[1] + column, length)  # flat places in the batch
        here = _spans(start, length)  # flat indices in the store
        positions.flat[at] = _spans(np.zeros_like(length), length)
        documents.flat[at] = np.repeat(place, length)
        source = {}
        match self.recipe.objective:
            case "next":
                ids.flat[at] = self.store.ids[here]
                targets.flat[at] = self._learnt(here + 1)
            case "translate":
                targets.flat[at] = self._learnt(here)
                before = self.store.ids[np.maximum(here - 1, 0)].astype(np.int64)
                assert self.marks.start is not None
                ids.flat[at] = np.where(positions.flat[at] == 0, self.marks.start, before)
                source = self._sources(laid, pieces, line, place, shape)
            case "mask":
                ids.flat[at] = self.store.ids[here]
                ids, targets = self._hidden(ids, documents, index)
        return Batch(ids=ids, targets=targets, positions=positions, documents=documents, **source)

    def _learnt(self, here: Longs) -> Ints:
        """The ids at `here`, where they are to be guessed."""
        found = self.store.ids[here].astype(np.int64)
        return (
            found if self.store.learn is None else np.where(self.store.learn[here], found, NO_LOSS)
        )

    def _sources(
        self, laid: Plan, pieces: Longs, line: Longs, place: Longs, shape: tuple[int, int]
    ) -> dict[str, Ints]:
        """What the encoder reads, laid out like its targets."""
        assert self.store.source_ids is not None
        length = laid.other_length[pieces]
        at = _spans(line * shape[1] + laid.other_column[pieces], length)
        ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        documents = np.full(shape, PADDING)
        ids.flat[at] = self.store.source_ids[_spans(laid.other_start[pieces], length)]
        positions.flat[at] = _spans(np.zeros_like(length), length)
        documents.flat[at] = np.repeat(place, length)
        return {"source": ids, "source_positions": positions, "source_documents": documents}

    def _hidden(self, ids: Ints, documents: Ints, index: int) -> tuple[Ints, Ints]:
        """`ids` with some of them hidden (Devlin et al. 2019), and those that were."""
        marks, rng = self.marks, np.random.default_rng([self.recipe.seed, 3, index])
        assert marks.mask is not None
        usual = (documents != PADDING) & ~np.isin(ids, list(marks.special))
        chosen = usual & (rng.random(ids.shape) < self.recipe.mask_share)
        how, other = rng.random(ids.shape), rng.integers(0, marks.vocab_size, ids.shape)
        shown = np.where(how < HIDDEN, marks.mask, np.where(how < OTHER, other, ids))
        return np.where(chosen, shown, ids), np.where(chosen, ids, NO_LOSS)


def ahead(batches: Batches, indices: Iterable[int]) -> Iterator[Batch]:
    """`batches.batch(index)` for each index in turn, made by a thread that runs a little ahead."""
    waiting = iter(indices)
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(batches.batch, index) for index in islice(waiting, AHEAD)]
        while coming:
            found = coming.pop(0).result()
            coming += [pool.submit(batches.batch, index) for index in islice(waiting, 1)]
            yield found


def _spans(begin: Longs, length: Longs) -> Longs:
    """begin[0] .. begin[0] + length[0] - 1, then those of the next, in one row."""
    before = np.cumsum(length) - length
    return np.repeat(begin - before, length) + np.arange(int(length.sum()))
