"""Attention taken apart: every rule gives the recorded value, whole and cell by cell."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from captured import Captured, capture
from golden import CASES, MORE, golden
from shapes import marked

from lucidlm.config import Rope
from lucidlm.locale import text
from lucidlm.model.position import rotate, rotation
from lucidlm.trace.address import parse
from lucidlm.trace.operations import (
    Dot,
    Operation,
    Rotate,
    ScaleAndMask,
    Softmax,
    WeightedSum,
    Worked,
)
from lucidlm.trace.site import Site

EVERY = [*CASES, *MORE]
KINDS = (Rotate, Dot, ScaleAndMask, Softmax, WeightedSum)
DTYPES = {"float32": np.float32, "float64": np.float64}


@cache
def captured(family: str, shape: str, dtype: str) -> Captured:
    pair = golden(family, shape)
    source = None if pair.source is None else pair.source[0].tolist()
    return capture(pair.engine(dtype), pair.checkpoint.config, pair.ids[0].tolist(), source)


def sites(run: Captured) -> Iterator[Site]:
    return (site for site in run.sites.values() if isinstance(site.operation, KINDS))


def compare(operation: Operation, run: Any, recorded: Any) -> None:
    """The recorded site lies within rounding of the computed one."""
    computed = operation.compute(run)
    assert computed.value.dtype == np.float64
    assert computed.value.shape == recorded.shape
    if computed.magnitude is None:
        np.testing.assert_array_equal(computed.value.astype(recorded.dtype), recorded)
        return
    infinite = np.isinf(recorded)
    np.testing.assert_array_equal(computed.value[infinite], recorded[infinite])
    kind = np.finfo(recorded.dtype)  # below its normal numbers roundings do not shrink further
    tolerance = 64 * np.maximum(kind.eps * computed.magnitude, kind.tiny)
    with np.errstate(invalid="ignore"):
        error = np.abs(computed.value - recorded)
    assert (error[~infinite] <= tolerance[~infinite]).all()
    hidden = np.where(infinite, 0, computed.value) == 0
    assert (recorded[hidden & ~infinite] == 0).all()


@pytest.mark.parametrize(("family", "shape"), marked(EVERY))
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_site_follows_from_those_before_it(family: str, shape: str, dtype: str) -> None:
    run = captured(family, shape, dtype)
    found = list(sites(run))
    assert {type(site.operation) for site in found} >= {Dot, ScaleAndMask, Softmax, WeightedSum}
    for site in found:
        compare(site.operation, run, run.read(site.address))


def cells(site: Site, shape: tuple[int, ...], count: int) -> Iterator[tuple[int, ...]]:
    """`count` cells anywhere, and the two corners."""
    numbers = np.random.default_rng(len(site.address))
    yield (0,) * len(shape)
    yield tuple(size - 1 for size in shape)
    for _ in range(count):
        yield tuple(int(numbers.integers(size)) for size in shape)


def ran(worked: Worked) -> float:
    """What the cell's program comes to."""
    names: dict[str, Any] = {"np": np}
    names |= {name: np.asarray(array) for name, array in worked.arrays.items()}
    exec(worked.program, names)
    return float(names["value"])


@pytest.mark.parametrize(("family", "shape"), marked(EVERY))
def test_a_cell_is_the_sum_of_its_terms(family: str, shape: str) -> None:
    run = captured(family, shape, "float32")
    axes = {address: site.axes for address, site in run.sites.items()}
    for site in sites(run):
        recorded, whole = run.read(site.address), site.operation.compute(run).value
        for at in cells(site, recorded.shape, 2):
            worked = site.operation.cell(run, at)
            np.testing.assert_allclose(worked.total, whole[at], rtol=1e-9, atol=1e-12)
            assert worked.total == pytest.approx(ran(worked), rel=1e-12)
            assert worked.expression
            terms = worked.terms
            product = np.prod(np.stack(terms.factors), axis=0)
            np.testing.assert_allclose(terms.values, product, rtol=1e-14)
            if not isinstance(site.operation, Softmax):
                np.testing.assert_allclose(terms.values.sum(), worked.total, rtol=1e-9, atol=1e-12)
            for i in range(len(terms.values)):
                addresses = terms.addresses(i)
                assert len(addresses) == len(terms.factors)
                for address, factor in zip(addresses, terms.factors, strict=True):
                    value = value_at(run, address, axes)
                    if isinstance(site.operation, Softmax):
                        assert np.exp(value - worked.steps[0][1]) == pytest.approx(factor[i])
                    elif address:
                        assert value == factor[i]
            for name, value, address in worked.steps:
                if address and name != "exp":
                    assert value_at(run, address, axes) == value
            if worked.note is not None:
                key, values = worked.note
                assert all(text(key, lang, **values) for lang in ("en", "zh"))


def value_at(run: Captured, address: str, axes: Any) -> float:
    if not address:
        return float("nan")
    found = parse(address, axes)
    values = run.read(found.site)
    index = found.index(axes[found.site], values.shape)
    assert all(isinstance(place, int) for place in index)
    return float(values[index])


def test_a_hidden_cell_says_why() -> None:
    notes = {}
    for case, query, key in (
        (("llama", "mistral"), 3, 9),
        (("llama", "mistral"), 9, 3),
    ):
        run = captured(*case, "float32")
        address = "layers.0.attention.scores"
        assert run.read(address)[1, query, key] == -np.inf
        worked = run.sites[address].operation.cell(run, (1, query, key))
        assert worked.total == -np.inf
        assert worked.note is not None
        notes[worked.note[0]] = text(worked.note[0], "en", **worked.note[1])
        product = run.read("layers.0.attention.products")[1, query, key]
        (name, value, _), *_ = worked.steps
        assert (name, value) == ("products", product)
        pattern = run.sites["layers.0.attention.pattern"].operation.cell(run, (1, query, key))
        assert pattern.total == 0
        assert pattern.note == ("explain.hidden_weight", {"query": query, "key": key})
    assert "9" in notes["explain.masked_future"]
    assert "last 5 positions" in notes["explain.masked_window"]


class Given:
    """Sites by name."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def read(self, address: str) -> Any:
        return self.values[address]

    weight = sampled = start = read


def test_a_strict_mask_hides_the_word_from_itself_and_the_first_sees_nothing() -> None:
    given: Any = Given(products=np.arange(9, dtype=np.float32).reshape(1, 3, 3))
    operation = ScaleAndMask("products", 0.5, None, "strict", None)
    scores = operation.compute(given)
    assert scores.magnitude is None  # half a number is exact
    given.values["scores"] = scores.value.astype(np.float32)
    assert operation.cell(given, (0, 1, 1)).note == ("explain.masked_self", {"query": 1})
    assert operation.cell(given, (0, 1, 2)).note == (
        "explain.masked_future",
        {"query": 1, "key": 2},
    )
    pattern = Softmax("scores").compute(given).value
    np.testing.assert_array_equal(pattern[0], [[0, 0, 0], [1, 0, 0], pattern[0, 2]])
    assert Softmax("scores").cell(given, (0, 0, 0)).total == 0
    given.values["pattern"] = pattern
    given.values["value"] = np.ones((3, 1, 2), np.float32)
    mixed = WeightedSum("pattern", "value", 1)
    np.testing.assert_array_equal(mixed.compute(given).value[:, 0, 0], [0, 1, 1])
    nothing = mixed.cell(given, (0, 0, 0))
    assert (nothing.total, nothing.steps) == (0, (("zeros", 3, ""),))
    assert ran(nothing) == 0


def test_what_no_pass_computed_is_hidden() -> None:
    products = np.array([[[1.0, np.nan], [2.0, 3.0]]], np.float32)
    given: Any = Given(products=products, value=np.ones((2, 1, 1), np.float32))
    operation = ScaleAndMask("products", 0.3, None, "causal", None)
    computed = operation.compute(given)
    assert computed.magnitude is not None  # 0.3 is not a float32
    assert computed.value[0, 0, 1] == -np.inf
    note = operation.cell(given, (0, 0, 1)).note
    assert note is not None and note[0] == "explain.masked_future"
    assert operation.cell(given, (0, 0, 1)).steps == ()
    given.values["scores"] = np.array([[[0.3, np.nan], [0.6, 0.9]]], np.float32)
    pattern = Softmax("scores").compute(given).value
    np.testing.assert_array_equal(pattern[0, 0], [1, 0])
    given.values["pattern"] = np.array([[[1, np.nan], [0.4, 0.6]]], np.float32)
    mixed = WeightedSum("pattern", "value", 1).compute(given).value
    np.testing.assert_allclose(mixed[:, 0, 0], [1, 1], rtol=1e-6)


ROPES = {
    "plain": Rope(),
    "slow": Rope(base=1e6),
    "linear": Rope(scaling="linear", factor=8.0),
    "llama3": Rope(base=5e5, scaling="llama3", factor=32.0),
}


@pytest.mark.parametrize("rope", ROPES.values(), ids=ROPES)
@pytest.mark.parametrize("size", [12, 64, 256])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rotations_far_along_the_text(rope: Rope, size: int, dtype: str) -> None:
    kind = getattr(torch, dtype)
    x = torch.randn((1, 2, 501, size), dtype=kind, generator=torch.Generator().manual_seed(3))
    turned = rotate(x, rotation(rope, torch.arange(501)[None], size, kind))
    given: Any = Given(query=x[0].swapaxes(0, 1).numpy())
    operation = Rotate("query", rope)
    recorded = turned[0].swapaxes(0, 1).numpy()
    compare(operation, given, recorded)
    for at in ((500, 1, 0), (500, 0, size - 1), (77, 1, size // 2)):
        worked = operation.cell(given, at)
        whole = operation.compute(given)
        assert worked.total == pytest.approx(whole.value[at], abs=1e-12)
        assert whole.magnitude is not None  # grows with the position, as the angle's rounding does
        assert worked.magnitude == pytest.approx(whole.magnitude[at])
        assert ran(worked) == worked.total
        steps = {name: value for name, value, _ in worked.steps}
        assert steps["cos"] == pytest.approx(np.cos(steps["angle"]))


def test_a_wrong_value_is_noticed() -> None:
    """The tolerances are no wider than what they are for: a small change is outside them."""
    run = captured("llama", "llama 3", "float32")
    for site in sites(run):
        recorded = run.read(site.address).copy()
        at = np.unravel_index(
            np.argmax(np.abs(np.where(np.isinf(recorded), 0, recorded))), recorded.shape
        )
        recorded[at] *= 1.001
        with pytest.raises(AssertionError):
            compare(site.operation, run, recorded)
