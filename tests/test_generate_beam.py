"""Beam search on toy engines: its laws, stop strings, the context, cancelling."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from engines import Pieces, TableEngine, ToyEngine, letters
from hypothesis import given
from hypothesis import strategies as st

from lucidlm.generate import (
    GenerationSettings,
    Hypothesis,
    SamplingSettings,
    beam_search,
    complete,
    text_of,
)

prompts = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=6), min_size=1, max_size=3)


def search(
    engine: ToyEngine, rows: Any, sources: Any = None, **more: Any
) -> list[list[Hypothesis]]:
    more.setdefault("end", frozenset({3, 7}))
    decoder = more.pop("decoder", letters(engine.vocab_size))
    cancelled = more.pop("cancelled", lambda: False)
    chosen = GenerationSettings(**{"max_new_tokens": 8, **more})
    return beam_search(
        engine, rows, chosen, decoder=decoder, sources=sources, cancelled=cancelled, alternatives=2
    )


@given(prompts, st.integers(0, 99), st.floats(-2, 3), st.sampled_from([True, False, "never"]))
def test_one_beam_is_greedy(rows: list[list[int]], seed: int, penalty: float, early: Any) -> None:
    engine = ToyEngine(seed=seed)
    chosen = GenerationSettings(max_new_tokens=8, end=frozenset({3, 7}))
    greedy = complete(engine, rows, chosen, decoder=letters(12), alternatives=2)
    found = search(engine, rows, beams=1, length_penalty=penalty, early_stopping=early)
    for ours, expected in zip(found, greedy, strict=True):
        [hypothesis] = ours
        assert hypothesis.ids == expected.ids
        assert hypothesis.stop_reason == expected.stop_reason
        for token, greedy_token in zip(hypothesis.tokens, expected.tokens, strict=True):
            assert token.probability == pytest.approx(greedy_token.probability, rel=1e-5)
            assert [i for i, _ in token.alternatives] == [a.id for a in greedy_token.alternatives]


@given(prompts, st.integers(0, 99), st.integers(2, 5), st.booleans(), st.integers(1, 4))
def test_a_batch_is_its_rows_alone(
    rows: list[list[int]], seed: int, beams: int, encoder: bool, chunk: int
) -> None:
    engine = ToyEngine(seed=seed)
    sources = [row[::-1] for row in rows] if encoder else None
    batch = search(engine, rows, sources, beams=beams, prefill_chunk=chunk)
    for r, row in enumerate(rows):
        assert search(engine, [row], sources and [sources[r]], beams=beams) == [batch[r]]


@given(st.integers(0, 99), st.floats(0, 2))
def test_with_enough_beams_it_finds_the_best_of_all(seed: int, penalty: float) -> None:
    engine = ToyEngine(vocab_size=3, seed=seed)
    best: dict[tuple[int, ...], float] = {}
    for ids in itertools.product(range(3), repeat=4):
        logits = engine.logits([1, *ids[:-1]], np.zeros(8)).astype(np.float32).astype(np.float64)
        each = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        length = ids.index(0) + 1 if 0 in ids else 4  # 0 ends
        total = sum(each[i, ids[i]] for i in range(length))
        best[ids[:length]] = total / length**penalty
    ranked = sorted(best.items(), key=lambda item: -item[1])
    [found] = search(
        engine,
        [[1]],
        beams=len(ranked),
        max_new_tokens=4,
        end=frozenset({0}),
        length_penalty=penalty,
        early_stopping="never",
    )
    assert [h.ids for h in found] == [ids for ids, _ in ranked]
    assert [h.score for h in found] == pytest.approx([score for _, score in ranked])


@given(prompts, st.integers(0, 99), st.integers(2, 4))
def test_hypotheses_are_what_they_say(rows: list[list[int]], seed: int, beams: int) -> None:
    for found in search(ToyEngine(seed=seed), rows, beams=beams, length_penalty=0.5):
        assert 1 <= len(found) <= beams
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        assert len({h.ids for h in found}) == len(found)
        for h in found:
            total = sum(np.log(token.probability) for token in h.tokens)
            assert h.log_probability == pytest.approx(total)
            assert h.score == pytest.approx(total / len(h.ids) ** 0.5)
            assert h.stop_reason == ("end" if h.ids[-1] in (3, 7) else "length")
            assert not {3, 7} & set(h.ids[:-1])


def test_stop_strings_end_a_hypothesis_and_are_cut_from_its_text() -> None:
    table = np.full((4, 4), -9.0)
    table[[0, 1, 2, 3], [1, 2, 3, 0]] = 0
    decoder = Pieces([b"a", b"b", b"\xe5\xa5", b"\xbdz"])
    chosen = GenerationSettings(beams=2, max_new_tokens=9, stop=["\ufffd", "xx", "az"])
    assert complete(TableEngine(table), [[0]], chosen, decoder=decoder)[0].stop_reason == "length"
    chosen = GenerationSettings(beams=2, max_new_tokens=9, stop=["b\\", "za"])
    first = beam_search(TableEngine(table), [[0]], chosen, decoder=decoder)[0][0]
    assert first.ids == (1, 2, 3, 0) and first.stop_reason == "stop"
    assert text_of(first.ids, decoder, chosen.stop, fresh=False) == "b好"
    answer = complete(TableEngine(table), [[0]], chosen, decoder=decoder, alternatives=1)[0]
    assert answer.text == "b好" and answer.ids == first.ids
    assert [t.alternatives[0].id for t in answer.tokens] == [1, 2, 3, 0]


def test_context_and_cancelling() -> None:
    [found] = search(
        ToyEngine(max_positions=6), [[1, 2]], beams=3, max_new_tokens=99, end=frozenset()
    )
    assert {(len(h.ids), h.stop_reason) for h in found} == {(4, "context")}
    asked = iter([False, False, False, True])
    [found] = search(ToyEngine(), [[1, 2]], beams=3, end=frozenset(), cancelled=lambda: next(asked))
    assert [(len(h.ids), h.stop_reason) for h in found] == [(3, "cancelled")] * 3
    chosen = GenerationSettings(beams=2)
    [none] = complete(ToyEngine(), [[1]], chosen, decoder=letters(12), cancelled=lambda: True)
    assert none.ids == () and none.stop_reason == "cancelled" and none.text == ""


def test_a_beam_that_cannot_go_on_is_dropped() -> None:
    table = np.full((3, 3), -np.inf)
    table[0, 1] = table[0, 2] = table[2, 2] = 0.0  # nothing follows 1
    [found] = search(TableEngine(table), [[0]], beams=2, max_new_tokens=3, end=frozenset())
    assert [h.ids for h in found] == [(2, 2, 2)]


@given(prompts, st.integers(0, 99))
def test_suppressed_ids_never_come_and_forced_ones_do(rows: list[list[int]], seed: int) -> None:
    sampling = SamplingSettings(suppressed=frozenset({0, 1, 2}))
    for found in search(ToyEngine(seed=seed), rows, beams=3, sampling=sampling, forced_bos=9):
        for h in found:
            assert h.ids[0] == 9 and not {0, 1, 2} & set(h.ids)
            assert 0 < h.tokens[0].probability < 1
