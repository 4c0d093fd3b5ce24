"""The logit lens: the model's own norm and head on the residual stream behind every sublayer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden import CASES, golden
from recorded import plain
from shapes import WITH_HEAD, marked

from lucidlm.errors import TraceError
from lucidlm.trace import predictions
from lucidlm.trace.lens import lens, lens_logits, lens_sites

FIRST = list({family: (family, shape) for family, shape in reversed(WITH_HEAD)}.values())


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()


@pytest.mark.parametrize(("family", "shape"), marked(WITH_HEAD))
def test_the_last_row_is_the_models_own_answer(family: str, shape: str) -> None:
    run = plain(family, shape)
    positions = range(run.length)
    ours = np.stack(list(lens_logits(run, lens_sites(run)[-1:], positions)))
    own = run["head.logits"]
    assert np.abs(ours - own).max() <= 1e-5 * np.abs(own).max()


@pytest.mark.parametrize(("family", "shape"), FIRST)
def test_every_row_against_one_made_by_hand(family: str, shape: str) -> None:
    """In float64 NumPy, from the reference equations, sorted and not partitioned."""
    from lucidlm.reference.engine import Reference

    pair = golden(family, shape)
    reference = Reference(pair.checkpoint.config, pair.checkpoint.weights(np.float64))
    run = plain(family, shape, "float64")
    slow = replace(run, engine=reference)
    position, word = run.length - 2, 11
    found = lens(run, word, [position], top=3)
    assert {row.place for row in found.rows} >= {"attention", "feedforward"}
    for row in found.rows:
        share = softmax(next(lens_logits(slow, [row.address], [position])))
        (reading,) = row.readings
        assert reading.probability == pytest.approx(share[word], rel=1e-8)
        assert reading.rank == 1 + int((share > share[word]).sum())
        assert reading.entropy == pytest.approx(-(share * np.log2(share)).sum(), rel=1e-8)
        assert [one.id for one in reading.top] == np.argsort(-share)[:3].tolist()
        assert [one.probability for one in reading.top] == pytest.approx(np.sort(share)[:-4:-1])


def test_each_position_follows_its_own_word() -> None:
    run = plain("bart", "bart")
    found = lens(run)
    assert found.positions == tuple(p - 1 for p in run.chosen)
    assert [word.id for word in found.words] == [run.ids[p] for p in run.chosen]
    last_row = found.rows[-1].address
    assert last_row == f"decoder.layers.{len(found.rows) // 3 - 1}.residual_out"
    last = found.rows[-1].readings
    assert [reading.rank for reading in last] == [1] * len(run.chosen)  # greedy
    json = found.to_json()
    assert (
        json["rows"][0]["readings"][0]["top"][0]["label"] == found.rows[0].readings[0].top[0].label
    )


def test_logits_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    run = plain(*FIRST[-1])
    whole = lens(run, 5, range(run.length))
    monkeypatch.setattr(predictions, "VALUES", 100)
    pieces = lens(run, 5, range(run.length))
    for a, b in zip(whole.rows, pieces.rows, strict=True):
        for one, other in zip(a.readings, b.readings, strict=True):
            assert one.rank == other.rank
            assert one.probability == pytest.approx(other.probability, rel=1e-5)


def test_a_model_without_logits_or_a_trace_without_its_model() -> None:
    without = next(case for case in CASES if case not in WITH_HEAD)
    with pytest.raises(TraceError, match="no logits"):
        lens(plain(*without))
    with pytest.raises(TraceError, match="without its model"):
        lens(replace(plain(*FIRST[0]), engine=None))
    with pytest.raises(TraceError, match="was not read"):
        lens(plain(*FIRST[0]), positions=[400])
