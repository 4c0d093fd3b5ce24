"""Look-ups, sums, products with weights, norms, activations: what each makes of recorded values is
what the engine made of them, and one cell taken apart says the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from captured import Captured, capture
from golden import CASES, MORE, golden

from lucidlm.trace.address import parse
from lucidlm.trace.operations import (
    Add,
    BiasTable,
    Copy,
    Deviation,
    Gain,
    HeadOutputs,
    Linear,
    Lookup,
    Mean,
    Multiply,
    Normalize,
    Sinusoid,
    Unary,
    Worked,
)
from lucidlm.trace.rounding import epsilon, rounded
from lucidlm.trace.site import Site, parameter_axes

KINDS = (
    *(Lookup, Sinusoid, BiasTable, Copy, Add, Multiply, Unary),
    *(Linear, HeadOutputs, Mean, Deviation, Normalize, Gain),
)
ALL = [*CASES, *MORE]
DTYPES = ("float32", "float64")
ROUNDINGS = 16  # of 64 that verification allows: these models are small


@cache
def captured(case: tuple[str, str], dtype: str) -> Captured:
    pair = golden(*case)
    source = None if pair.source is None else pair.source[0].tolist()
    return capture(pair.engine(dtype), pair.checkpoint.config, pair.ids[0].tolist(), source)


def ours(run: Captured) -> Iterator[Site]:
    """The sites of the kinds that this file tests, but for parts that the run had no use for."""
    for site in run.sites.values():
        if isinstance(site.operation, KINDS) and (site.derived or site.address in run.values):
            yield site


def recorded(run: Captured, site: Site) -> Any:
    return site.operation.compute(run).value if site.derived else run.read(site.address)


def at(run: Captured, address: str) -> float:
    """What stands at the address of one cell, whose axes must be the right ones in order."""
    found = parse(address)
    name, index = found.site, tuple(found.at.values())
    if name in run.sites:
        axes, array = run.sites[name].axes, recorded(run, run.sites[name])
    elif name in run.values:
        axes, array = ("position",), np.asarray(run.values[name])
    else:
        array = run.weight(name)
        axes = parameter_axes(name, array.ndim)
    assert (str(found), tuple(found.at)) == (address, axes)
    return float(array[index])


def test_every_kind_is_met() -> None:
    met = {type(site.operation) for case in ALL for site in ours(captured(case, "float32"))}
    assert met == set(KINDS)


IN_BFLOAT16 = [("bert", "both"), ("gemma", "local and global"), ("t5", "v1.1")]


@pytest.mark.parametrize(
    ("case", "dtype"),
    [*product(ALL, DTYPES), *product(IN_BFLOAT16, ["bfloat16"])],
    ids=lambda part: part if isinstance(part, str) else " ".join(part),
)
def test_what_the_rule_makes_is_what_the_engine_made(case: tuple[str, str], dtype: str) -> None:
    run = captured(case, dtype)
    for site in ours(run):
        made, was = site.operation.compute(run), recorded(run, site)
        assert made.value.dtype == np.float64
        assert made.value.shape == was.shape, site.address
        if made.magnitude is None:
            np.testing.assert_array_equal(
                rounded(made.value, was.dtype, dtype), was, err_msg=site.address
            )
            continue
        assert made.magnitude.shape == was.shape, site.address
        assert (made.magnitude >= np.abs(made.value) * (1 - 1e-9)).all(), site.address
        error = np.abs(made.value - was)
        allowed = (2 if dtype == "bfloat16" else ROUNDINGS) * epsilon(dtype) * made.magnitude
        assert (error <= allowed).all(), f"{site.address} {(error / allowed).max()}"


@pytest.mark.parametrize("case", ALL, ids=" ".join)
def test_what_is_exact(case: tuple[str, str]) -> None:
    run = captured(case, "float32")
    for site in ours(run):
        rule = site.operation
        once = (
            isinstance(rule, Copy | Multiply | BiasTable)
            or (isinstance(rule, Add) and len(rule.sources) == 2)
            or (isinstance(rule, Lookup) and rule.scale == 1.0)
            or (isinstance(rule, Unary) and rule.function == "relu")
        )
        assert (rule.compute(run).magnitude is None) is once, site.address


@pytest.mark.parametrize("case", ALL, ids=" ".join)
def test_the_heads_and_the_bias_make_the_output(case: tuple[str, str]) -> None:
    run = captured(case, "float64")
    parts = [s.operation for s in ours(run) if isinstance(s.operation, HeadOutputs)]
    assert parts
    for rule in parts:
        at = rule.weight.removesuffix(".weight")
        whole = rule.compute(run).value.sum(axis=1)
        bias = run.sites[at].operation.bias
        whole += 0.0 if bias is None else run.weight(bias)
        np.testing.assert_allclose(whole, run.read(at), atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ALL, ids=" ".join)
def test_a_cell_taken_apart_is_the_cell(case: tuple[str, str], dtype: str) -> None:
    run = captured(case, dtype)
    numbers = np.random.default_rng(ALL.index(case))
    one_each = {(site.key, type(site.operation)): site for site in ours(run)}
    for site in one_each.values():
        made, was = site.operation.compute(run), recorded(run, site)
        magnitude = np.abs(made.value) if made.magnitude is None else made.magnitude
        for _ in range(2):
            place = tuple(int(numbers.integers(size)) for size in was.shape)
            worked, size = site.operation.cell(run, place), float(magnitude[place])
            close = 1e-13 * size + 1e-300
            assert worked.total == pytest.approx(made.value[place], rel=1e-13, abs=close)
            error = abs(worked.total - float(was[place]))
            assert error <= ROUNDINGS * epsilon(dtype) * size, site.address
            if made.magnitude is not None:
                assert own_magnitude(worked) == pytest.approx(size, rel=1e-9), site.address
            terms_make_the_cell(worked, site, close)
            factors_stand_where_they_say(worked, site, run)
            the_program_makes_it(worked)
            the_equation_holds(worked, size)


def own_magnitude(worked: Worked) -> float:
    if worked.magnitude is not None:
        return worked.magnitude
    return float(np.abs(worked.terms.values).sum())


def terms_make_the_cell(worked: Worked, site: Site, close: float) -> None:
    terms = worked.terms
    assert all(factor.shape == terms.values.shape for factor in terms.factors)
    np.testing.assert_array_equal(terms.values, np.prod(terms.factors, axis=0))
    steps = {name: value for name, value, _ in worked.steps}
    total = float(terms.values.sum())
    if isinstance(site.operation, Unary):
        assert len(terms.values) == 1
    elif isinstance(site.operation, Deviation):
        assert total == pytest.approx(steps["mean_square"], rel=1e-12)
        assert math.sqrt(total + steps["eps"]) == pytest.approx(worked.total, rel=1e-12)
    else:
        # subtracting two shares is less exact than sharing out a difference
        lost = 1e-15 * float(np.abs(terms.values).sum())
        assert total == pytest.approx(worked.total, rel=1e-12, abs=close + lost)
    is_a_sum = not isinstance(site.operation, Unary | Deviation)
    assert (worked.note is None) is is_a_sum


def factors_stand_where_they_say(worked: Worked, site: Site, run: Captured) -> None:
    terms = worked.terms
    shift = {name: value for name, value, _ in worked.steps}.get("mean", 0.0)
    named_one = False
    for i in {0, len(terms.values) // 2, len(terms.values) - 1}:
        addresses = terms.addresses(i)
        assert len(addresses) == len(terms.factors)
        for address, factor in zip(addresses, terms.factors, strict=True):
            if not address:
                continue
            centred = isinstance(site.operation, Deviation)
            assert factor[i] == at(run, address) - (shift if centred else 0.0), address
            named_one = True
    for _, value, address in worked.steps:
        if address:
            assert at(run, address) == value
    assert named_one or isinstance(site.operation, Sinusoid)


def the_program_makes_it(worked: Worked) -> None:
    names = {"np": np, **worked.arrays}
    exec(worked.program, names)
    assert float(names["value"]) == pytest.approx(worked.total, rel=1e-12, abs=0)


def the_equation_holds(worked: Worked, size: float) -> None:
    left, _, right = worked.expression.partition(" = ")
    assert "\n" not in worked.expression
    assert float(left) == pytest.approx(worked.total, rel=1e-5)
    if "…" in right:
        assert right.count(" + ") >= 4
        return
    if "table" in right:
        return
    names = {"erf": math.erf, "sqrt": math.sqrt, "tanh": math.tanh, "exp": math.exp}
    names |= {"sin": math.sin, "cos": math.cos}
    found = eval(right.replace("^", "**"), {**names, "max": max, "pi": math.pi})
    assert found == pytest.approx(worked.total, rel=1e-4, abs=1e-4 * size), worked.expression


def test_a_long_sum_shows_its_largest_terms_and_counts_the_rest() -> None:
    run = captured(("gpt2", "plain"), "float32")
    worked = run.sites["layers.0.attention.output"].operation.cell(run, (3, 5))
    total, _, terms = worked.expression.partition(" = ")
    shown = terms.split(" + ")
    assert float(total) == pytest.approx(worked.total, rel=1e-5)
    assert shown[-1] == f"… (+{len(worked.terms.values) - 4})"
    largest = np.sort(np.abs(worked.terms.values))[::-1][:4]
    np.testing.assert_allclose([abs(eval(term)) for term in shown[:-1]], largest, rtol=1e-4)


def test_a_linear_layer_names_its_weights() -> None:
    run = captured(("gpt2", "plain"), "float32")
    terms = run.sites["layers.1.attention.query"].operation.cell(run, (3, 1, 2)).terms
    size = run.config.stacks["decoder"].attention.head_dim
    assert terms.addresses(4)[:2] == (
        "layers.1.attention_norm.input.output[position=3, dim=4]",
        f"layers.1.attention.query.weight[out={size + 2}, in=4]",
    )
    assert terms.addresses(len(terms.values) - 1) == (
        f"layers.1.attention.query.bias[out={size + 2}]",
        "",
        "",
    )
    terms = run.sites["layers.1.feedforward.output"].operation.cell(run, (3, 7)).terms
    assert terms.addresses(9)[0] == "layers.1.feedforward.activated[position=3, hidden=9]"
    terms = run.sites["head.logits"].operation.cell(run, (3, 7)).terms
    assert terms.addresses(9)[1] == "embedding.tokens.weight[word=7, dim=9]"


def test_a_look_up_shows_the_id() -> None:
    run = captured(("bert", "masked words"), "float32")
    worked = run.sites["embedding.tokens"].operation.cell(run, (3, 5))
    id = run.values["ids"][3]
    assert worked.steps == (("id", float(id), "ids[position=3]"),)
    assert worked.terms.addresses(0) == (f"embedding.tokens.weight[word={id}, dim=5]",)
    worked = run.sites["embedding.positions"].operation.cell(run, (3, 5))
    assert worked.terms.addresses(0) == ("embedding.positions.weight[row=3, dim=5]",)


def test_a_large_matrix_is_widened_in_blocks() -> None:
    """A vocabulary of more than two blocks, all of whose products are right."""
    numbers = np.random.default_rng(0)
    weight = numbers.normal(size=(20_000, 6)).astype(np.float32)
    x = numbers.normal(size=(3, 6)).astype(np.float32)
    arrays = {"x": x, "head.weight": weight}

    class Two:
        read = weight = staticmethod(lambda address: arrays[address])

    made = Linear("x", "head.weight", None).compute(Two())  # type: ignore[arg-type]
    np.testing.assert_allclose(made.value, x.astype(float) @ weight.astype(float).T)
    assert made.magnitude is not None
    np.testing.assert_allclose(made.magnitude, np.abs(x).astype(float) @ np.abs(weight).T, 1e-6)
