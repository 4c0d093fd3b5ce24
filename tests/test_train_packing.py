"""Packing and batches: nothing is lost, nothing crosses from one document into another, and a batch
depends on its number alone.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucidlm.train.batch import NO_LOSS, PADDING, Batch
from lucidlm.train.batches import Batches, Marks, ahead
from lucidlm.train.packing import epoch_documents
from lucidlm.train.recipe import DataRecipe, Recipe, Source
from lucidlm.train.store import Store

WIDTH = 16
MARKS = Marks(start=1, mask=2, special=frozenset({0, 1, 2}), vocab_size=1000)


def recipe(objective: str = "next", **options: Any) -> Recipe:
    data = DataRecipe(train=(Source(path="-"),), pack=options.pop("pack", True))
    return Recipe(data=data, objective=objective, context=WIDTH, **{"batch": 3, **options})  # type: ignore[arg-type]


def store(lengths: list[int], sources: list[int] | None = None) -> Store:
    """Documents whose ids tell where they stand: a new number for each."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(10, 10 + offsets[-1])
    if sources is None:
        return Store(ids, offsets)
    other = np.concatenate([[0], np.cumsum(sources)]).astype(np.int64)
    return Store(ids, offsets, None, np.arange(5000, 5000 + other[-1]), other)


def batches(kept: Store, told: Recipe, **options: Any) -> Batches:
    ranges = [(0, kept.documents)]
    return Batches(kept, told, ranges, [options.pop("repeat", 1.0)], MARKS, **options)


def lines(found: Batch) -> list[list[tuple[list[int], list[int]]]]:
    """Each line's documents: what is read, and what is to be guessed."""
    parts = []
    for row, _ in enumerate(found.ids):
        numbers = sorted(set(found.documents[row].tolist()) - {PADDING})
        here = [found.documents[row] == number for number in numbers]
        parts.append([(found.ids[row][h].tolist(), found.targets[row][h].tolist()) for h in here])
    return parts


LENGTHS = st.lists(st.integers(2, 3 * WIDTH), min_size=1, max_size=40)


@given(LENGTHS, st.integers(0, 3), st.booleans())
def test_every_token_is_read_once_and_guessed_from_its_own_document(
    lengths: list[int], epoch: int, pack: bool
) -> None:
    kept = store(lengths)
    own = batches(kept, recipe(pack=pack))
    laid = own.plan(epoch)
    found = own._filled(laid, np.arange(laid.lines), 0)
    read: Counter[int] = Counter()
    for line in lines(found):
        for ids, targets in line:
            assert targets == [id + 1 for id in ids]  # the next id, of the same document
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            read.update(ids)
    inputs = [
        id
        for d in range(len(lengths))
        for id in kept.ids[kept.offsets[d] : kept.offsets[d + 1] - 1]
    ]
    assert read == Counter(inputs)


@given(LENGTHS)
def test_positions_begin_at_zero_in_every_document(lengths: list[int]) -> None:
    own = batches(store(lengths), recipe())
    found = own._filled(own.plan(0), np.arange(own.plan(0).lines), 0)
    for row, numbers in enumerate(found.documents):
        for number in set(numbers.tolist()) - {PADDING}:
            here = numbers == number
            assert found.positions[row][here].tolist() == list(range(int(here.sum())))


def test_short_rows_fill_their_lines() -> None:
    rng = np.random.default_rng(0)
    own = batches(store(rng.integers(3, 9, 3000).tolist()), recipe())
    laid = own.plan(0)
    assert laid.length.sum() / (laid.lines * WIDTH) > 0.95


def test_one_long_document_wastes_nothing() -> None:
    own = batches(store([WIDTH * 100 + 1]), recipe())
    assert own.plan(0).lines <= 101
    assert own.plan(0).length.sum() == WIDTH * 100


def test_a_long_document_is_cut_elsewhere_in_another_epoch() -> None:
    own = batches(store([WIDTH * 100 + 1]), recipe())
    cuts = {tuple(sorted(own.plan(epoch).start.tolist())) for epoch in range(5)}
    assert len(cuts) > 1


@given(LENGTHS, st.lists(st.integers(0, 60), min_size=1, max_size=6))
@settings(max_examples=30)
def test_a_batch_depends_on_its_number_alone(lengths: list[int], asked: list[int]) -> None:
    kept = store(lengths)
    one = batches(kept, recipe())
    there = {index: one.batch(index) for index in asked}
    for index, found in there.items():
        again = batches(kept, recipe()).batch(index)
        for name in ("ids", "targets", "positions", "documents"):
            assert np.array_equal(getattr(found, name), getattr(again, name))


def test_several_processes_read_what_one_reads() -> None:
    """Process r of R reads batches r, R + r, ...: together those of one process."""
    own = batches(store([7] * 200), recipe())
    alone = [own.batch(index).ids for index in range(8)]
    shared = {
        step * 2 + rank: own.batch(step * 2 + rank).ids for rank in (1, 0) for step in range(4)
    }
    assert all(np.array_equal(alone[index], shared[index]) for index in range(8))
    assert all(np.array_equal(a.ids, b) for a, b in zip(ahead(own, range(8)), alone, strict=True))


def test_a_source_is_repeated_as_often_as_it_says() -> None:
    ranges, repeats = [(0, 10), (10, 30)], [3.0, 0.25]
    seen: Counter[int] = Counter()
    for epoch in range(4):
        documents = epoch_documents(ranges, repeats, 1, epoch)
        counts = Counter(documents.tolist())
        assert all(counts[d] == 3 for d in range(10))
        assert sum(counts[d] for d in range(10, 30)) == 5
        seen.update(documents.tolist())
    assert all(seen[d] == 1 for d in range(10, 30))  # after four epochs each had its turn


@given(st.lists(st.tuples(st.integers(2, WIDTH), st.integers(2, WIDTH)), min_size=1, max_size=30))
def test_pairs_stay_together(sizes: list[tuple[int, int]]) -> None:
    kept = store([a for a, _ in sizes], [b for _, b in sizes])
    own = batches(kept, recipe("translate"))
    found = own._filled(own.plan(0), np.arange(own.plan(0).lines), 0)
    assert found.source is not None and found.source_documents is not None
    assert kept.source_offsets is not None
    seen = []
    for row, numbers in enumerate(found.documents):
        for number in sorted(set(numbers.tolist()) - {PADDING}):
            here, there = numbers == number, found.source_documents[row] == number
            targets = found.targets[row][here].tolist()
            document = int(np.searchsorted(kept.offsets, targets[0] - 10, side="right")) - 1
            begin, end = kept.source_offsets[document : document + 2]
            assert found.source[row][there].tolist() == list(range(5000 + begin, 5000 + end))
            assert found.ids[row][here].tolist() == [MARKS.start, *targets[:-1]]
            seen.append(document)
    assert sorted(seen) == list(range(len(sizes)))


def test_hidden_words_are_as_many_as_devlin_says() -> None:
    own = batches(store([200] * 300), recipe("mask", batch=1000))
    found = own.batch(0)
    real = found.documents != PADDING
    chosen = found.targets != NO_LOSS
    assert not (chosen & ~real).any()
    assert chosen.sum() / real.sum() == pytest.approx(0.15, abs=0.02)
    shown, was = found.ids[chosen], found.targets[chosen]
    assert (shown == MARKS.mask).mean() == pytest.approx(0.8, abs=0.04)
    assert (shown == was).mean() == pytest.approx(0.1, abs=0.03)
    assert not np.array_equal(own.batch(len(own)).targets, found.targets)  # others, next time


def test_held_out_lines_are_read_once() -> None:
    own = batches(store([WIDTH + 1] * 7), recipe(), once=True)
    assert len(own) == 3
    read = [
        id for index in range(3) for id in own.batch(index).ids[own.batch(index).documents >= 0]
    ]
    assert len(read) == 7 * WIDTH == len(set(read))


def test_a_batch_knows_its_tokens(tmp_path: Path) -> None:
    found = batches(store([5, 4], [3, 2]), recipe("translate", batch=1)).batch(0)
    assert isinstance(found, Batch) and found.tokens == 14
