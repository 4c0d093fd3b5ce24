"""Pooling, fill-in and scoring on toy engines against direct computation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from engines import TableEngine, ToyEngine
from hypothesis import given
from hypothesis import strategies as st

from lucidlm.engine import ForwardContext
from lucidlm.errors import GenerationError
from lucidlm.generate import embed, fill, pool, score

rows = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=6), min_size=1, max_size=4)


@given(rows)
def test_pooling_ignores_padding(texts: list[list[int]]) -> None:
    engine = ToyEngine()
    lengths = [len(row) for row in texts]
    vectors = engine.encode(texts, ForwardContext())
    for r, row in enumerate(texts):
        own = engine.embedding[row]
        for pooling, expected in (("mean", own.mean(axis=0)), ("first", own[0]), ("last", own[-1])):
            raw = pool(vectors, lengths, pooling, normalise=False)[r]  # type: ignore[arg-type]
            np.testing.assert_allclose(raw, expected, rtol=1e-5, atol=1e-6)
            unit = embed(engine, texts, pooling)[r]  # type: ignore[arg-type]
            np.testing.assert_allclose(unit, expected / np.linalg.norm(expected), atol=1e-6)
            assert unit.dtype == np.float32


def test_a_zero_vector_stays_zero() -> None:
    assert (pool(np.zeros((1, 2, 3), np.float32), [2]) == 0).all()


def test_segments_reach_the_engine() -> None:
    seen = []

    class Watched(ToyEngine):
        def encode(self, ids: Any, ctx: ForwardContext) -> Any:
            seen.append(ctx.segments)
            return super().encode(ids, ctx)

        def step(self, ids: Any, ctx: ForwardContext) -> Any:
            seen.append(ctx.segments)
            return super().step(ids, ctx)

    embed(Watched(), [[1, 2]], segments=[[0, 1]])
    fill(Watched(), [1, 2], mask_id=2, segments=[0, 1])
    assert seen == [[[0, 1]], [[0, 1]]]


@given(st.lists(st.integers(0, 11), min_size=1, max_size=9), st.integers(1, 20))
def test_fill_ranks_every_masked_place(row: list[int], top: int) -> None:
    engine = ToyEngine()
    masked = [*row, 4]
    found = fill(engine, masked, mask_id=4, top=top)
    assert [f.position for f in found] == [i for i, id in enumerate(masked) if id == 4]
    logits = engine.logits(masked, np.zeros(8))
    for f in found:
        weights = np.exp(logits[f.position])
        assert [i for i, _ in f.candidates] == np.argsort(-weights)[:top].tolist()
        expected = sorted(weights / weights.sum(), reverse=True)[:top]
        assert [p for _, p in f.candidates] == pytest.approx(expected, rel=1e-5)


def direct_nll(engine: ToyEngine, row: list[int], window: int, stride: int) -> Any:
    """Each token's nll from one uncached pass over the first window that reads what precedes it."""
    nll = []
    for target in range(1, len(row)):
        begin = 0
        while target > begin + window:
            begin += stride
        logits = engine.logits(row[begin:target], np.zeros(8))[-1].astype(np.float32)
        weights = logits.astype(np.float64)
        nll.append(np.log(np.exp(weights).sum()) - weights[row[target]])
    return np.array(nll)


@given(
    st.lists(st.integers(0, 11), min_size=2, max_size=30),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([1, 3, 1000]),
)
def test_sliding_windows_score_each_token_once(
    row: list[int], window: int, stride: int, chunk: int
) -> None:
    stride = min(stride, window)
    engine = ToyEngine(max_positions=12)
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lucidlm.generate.scoring.LOGITS_AT_ONCE", chunk * engine.vocab_size)
        result = score(
            engine,
            row,
            window=window,
            stride=stride,
            total_bytes=100,
            progress=lambda done, total: told.append((done, total)),
        )
    expected = direct_nll(engine, row, window, stride)
    np.testing.assert_allclose(result.nll, expected, atol=1e-5)
    assert result.perplexity == pytest.approx(math.exp(expected.mean()), rel=1e-5)
    assert result.bits_per_byte == pytest.approx(expected.sum() / math.log(2) / 100, rel=1e-5)
    assert max(max(read) for read in engine.reads) <= min(chunk, window)
    assert told[-1] == (len(row) - 1, len(row) - 1) and told == sorted(set(told))
    assert result.impossible.size == 0
    assert (result.window, result.stride) == (window, stride)


def test_defaults_fit_the_engine() -> None:
    result = score(ToyEngine(max_positions=10), [1, 2] * 30)
    assert (result.window, result.stride, result.bits_per_byte) == (10, 5, None)


def test_probability_zero_is_infinite_and_named() -> None:
    zero = -np.inf
    engine = TableEngine([[0, 0, zero], [1, 1, 2], [zero, zero, zero]])  # nothing follows 2
    result = score(engine, [0, 1, 0, 2, 2])
    assert result.perplexity == math.inf and result.impossible.tolist() == [3, 4]
    assert result.nll[0] == pytest.approx(math.log(2))
    assert result.nll[2:].tolist() == [math.inf, math.inf]


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda e: score(e, []), "empty_prompt"),
        (lambda e: score(e, [1]), "too_short_to_score"),
        (lambda e: score(e, [1, 99]), "id_outside"),
        (lambda e: score(e, [1, 2], window=0), "not_whole"),
        (lambda e: score(e, [1, 2], window=17), "window_too_long"),
        (lambda e: score(e, [1, 2], stride=0), "not_whole"),
        (lambda e: score(e, [1, 2], window=4, stride=5), "stride_too_long"),
        (lambda e: fill(e, [1, 2], mask_id=3), "no_mask"),
        (lambda e: fill(e, [], mask_id=3), "empty_prompt"),
        (lambda e: fill(e, [3] * 17, mask_id=3), "source_too_long"),
        (lambda e: fill(e, [3], mask_id=3, top=0), "not_whole"),
        (lambda e: embed(e, [[]]), "empty_prompt"),
        (lambda e: embed(e, [[1] * 17]), "source_too_long"),
        (lambda e: score(TableEngine([[np.nan, 0], [0, 0]]), [0, 1]), "not_finite"),
        (lambda e: score(TableEngine([[np.inf, 0], [0, 0]]), [0, 1]), "not_finite"),
    ],
)
def test_bad_input_is_one_sentence(call: Any, key: str) -> None:
    with pytest.raises(GenerationError) as caught:
        call(ToyEngine(max_positions=16))
    assert caught.value.key == f"generate.{key}"
    assert str(caught.value) and caught.value.message("zh")
