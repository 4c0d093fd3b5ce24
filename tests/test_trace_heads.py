"""Scores of heads on patterns made by hand, and of tokens against the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from golden import CASES, golden
from recorded import plain, traced

from lucidlm.errors import TraceError
from lucidlm.locale import LANGUAGES
from lucidlm.trace.heads import TAGS, HeadReport, heads, scores, tag_formula, tag_words, tokens

IDS = [5, 6, 7, 5, 6, 8]
FIRST = list({family: (family, shape) for family, shape in reversed(CASES)}.values())


def report(pattern: np.ndarray, ids: list[int]) -> HeadReport:
    (found,) = scores(pattern[None], ids)
    entropy, *rest = found
    previous, first, induction = (None if math.isnan(x) else x for x in rest)
    return HeadReport(
        layer=0,
        head=0,
        address="",
        entropy=entropy,
        previous_token=previous,
        first_token=first,
        induction=induction,
    )


def looking_at(keys: list[int]) -> np.ndarray:
    return np.eye(len(keys))[keys]


def test_a_previous_token_head() -> None:
    found = report(looking_at([0, 0, 1, 2, 3, 4]), IDS)
    assert (found.previous_token, found.entropy) == (1, 0)
    assert found.first_token == pytest.approx(1 / 5)
    assert found.tags == ("previous_token",)


def test_a_sink() -> None:
    found = report(looking_at([0] * 6), IDS)
    assert (found.first_token, found.previous_token) == (1, pytest.approx(1 / 5))
    assert found.tags == ("first_token",)


def test_an_induction_head() -> None:
    # token 5 stands at 0 and 3, token 6 at 1 and 4: what followed stands at 1 and 2
    found = report(looking_at([0, 1, 2, 1, 2, 5]), IDS)
    assert found.induction == 1
    assert found.tags == ("induction",)
    half = 0.5 * looking_at([0, 1, 2, 1, 2, 5]) + 0.5 * np.eye(6)
    assert report(half, IDS).induction == 0.5
    assert report(half, IDS).tags == ()  # above a half, not at it


def test_several_earlier_ones_count_together() -> None:
    even = np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
    # 3 stands at 0, 1 and 3: seen from 1 what followed is at 1; from 3 at 1 and 2
    assert report(even, [3, 3, 4, 3]).induction == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert report(even, [3, 3, 4, 3]).entropy == pytest.approx((0 + 1 + math.log2(3) + 2) / 4)


def test_what_cannot_be_said_is_none() -> None:
    single = report(np.ones((1, 1)), [3])
    assert (single.previous_token, single.first_token, single.induction) == (None, None, None)
    assert report(looking_at([0, 0, 0]), [1, 2, 3]).induction is None
    assert single.tags == ()


@pytest.mark.parametrize(("family", "shape"), FIRST)
def test_every_family_by_loops(family: str, shape: str) -> None:
    run = plain(family, shape)
    found = heads(run)
    stacks = golden(family, shape).checkpoint.config.stacks.values()
    assert len(found) == sum(stack.layers * stack.attention.heads for stack in stacks)
    assert all(
        tag_words(tag, lang) and tag_formula(tag, lang) for tag in TAGS for lang in LANGUAGES
    )
    for one in (found[0], found[-1]):
        ids = [t.id for t in (run.sources if one.address.startswith("enc") else run.tokens)]
        pattern = run[one.address].astype(np.float64)
        size = len(pattern)
        assert one.previous_token == pytest.approx(
            sum(pattern[q, q - 1] for q in range(1, size)) / (size - 1)
        )
        again = [
            sum(pattern[q, j + 1] for j in range(q) if ids[j] == ids[q])
            for q in range(size)
            if ids[q] in ids[:q]
        ]
        wanted = pytest.approx(sum(again) / len(again)) if again else None
        assert one.induction == wanted
        assert 0 <= one.entropy <= math.log2(size)


@pytest.mark.parametrize(("family", "shape"), FIRST)
def test_surprise_and_entropy(family: str, shape: str) -> None:
    run = plain(family, shape)
    config = golden(family, shape).checkpoint.config
    if config.head is None:
        with pytest.raises(TraceError):
            tokens(run)
        return
    found = tokens(run)
    assert [one.position for one in found] == list(range(run.length))
    logits = run["head.logits"].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for one, share in zip(found, shares, strict=True):
        assert one.predicts == one.position + (config.kind != "encoder")
        assert one.entropy == pytest.approx(-(share * np.log2(share)).sum(), rel=1e-5)
        assert one.id == run.ids[one.predicts]
        assert one.surprise == pytest.approx(-math.log2(share[one.id]), rel=1e-4)


def test_surprise_of_what_follows_is_the_score() -> None:
    from lucidlm.generate.scoring import score

    run = traced("gpt2", "plain", new=1)
    told = score(run.engine, run.ids[:-1], total_bytes=17)
    ours = sum(one.surprise or 0.0 for one in tokens(run)[:-1])
    assert ours / (run.length - 1) == pytest.approx(math.log2(told.perplexity), rel=1e-5)
