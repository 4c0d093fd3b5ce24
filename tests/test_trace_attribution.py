"""Direct logit attribution: the parts sum to the logit, and each is what it says."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from golden import CASES, golden
from recorded import DECODER, plain, traced
from shapes import WITH_HEAD, config, marked

from lucidlm.errors import TraceError
from lucidlm.trace.attribution import Attribution, attribute
from lucidlm.trace.edits import Add, Edit, Scale, Zero
from lucidlm.trace.trace import Trace

LINEAR = [
    case
    for case in WITH_HEAD
    if config(case).head.transform is None  # type: ignore[union-attr]
]
DTYPES = {"float64": 1e-10, "float32": 1e-4}


def size(found: Attribution) -> float:
    return sum(abs(part.value) for part in found.parts)


@pytest.mark.parametrize(("family", "shape"), marked(LINEAR))
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES.items())
def test_the_parts_sum_to_the_logit(family: str, shape: str, dtype: str, tolerance: float) -> None:
    run = plain(family, shape, dtype)
    for position in (run.prompt_length // 2, run.length - 1):
        found = attribute(run, 7, position)
        assert abs(found.remainder) <= tolerance * size(found)
        assert found.logit == pytest.approx(float(run["head.logits"][position, 7]), rel=1e-6)
        assert found.total == math.fsum(value for _, value in found.parts)


@pytest.mark.parametrize(("family", "shape"), marked(LINEAR))
def test_heads_and_sources_sum_to_the_same(family: str, shape: str) -> None:
    run = plain(family, shape, "float64")
    whole = attribute(run)
    heads = attribute(run, by_head=True, sources=True)
    assert heads.total == pytest.approx(whole.total, rel=1e-9)
    for name, value in whole.parts:
        if name.endswith("attention"):
            # what is left is the output's bias or that of the norm behind it
            mine = [p for p in heads.parts if p.name.startswith(f"{name}[")]
            beside = (f"{name}.", f"{name}_norm.output.")
            parts = mine + [part for part in heads.parts if part.name.startswith(beside)]
            assert len(mine) == run.catalogue[f"{name}.mixed"].sizes[1]
            assert math.fsum(part.value for part in parts) == pytest.approx(value, abs=1e-9)
    other = [value for name, value in heads.parts if "[head=" not in name]
    assert heads.rest == pytest.approx(math.fsum(other), abs=1e-8)
    brought = [part.value for part in (*heads.by_word, *heads.by_source)]
    assert heads.rest + math.fsum(brought) == pytest.approx(heads.total, abs=1e-9)
    assert len(heads.by_source) == run.source_length
    assert len(heads.by_word) == heads.position + 1


@pytest.mark.parametrize(("family", "shape"), marked(LINEAR))
def test_a_part_is_what_the_logit_loses_without_it(family: str, shape: str) -> None:
    """With the norms' scales held, the way from a part to the logit is linear: measured as the
    difference quotient of the equations that stand in the catalogue.
    """
    run = plain(family, shape, "float64")
    found = attribute(run, 9)
    position, prefix = found.position, "decoder." if run.sources else ""
    rebuilt = Rebuilt(run, position, prefix)
    for part in found.parts:
        if part.name.endswith(("attention", "feedforward", "tokens", "positions")):
            without = rebuilt.logit(9, leave_out=part.name)
            assert rebuilt.logit(9) - without == pytest.approx(part.value, abs=1e-9)


class Rebuilt:
    """A logit from the recorded sublayer outputs, forwards, each norm with its recorded scale."""

    def __init__(self, run: Trace, position: int, prefix: str) -> None:
        self.run, self.position, self.prefix = run, position, prefix
        assert run.config is not None
        self.config = run.config
        self.stack = run.config.stacks[prefix.removesuffix(".") or run.config.kind]
        self.read = cache(lambda address: run[address][position])

    def logit(self, id: int, leave_out: str = "") -> float:
        config, at = self.config, self.prefix
        assert config.head is not None
        x = np.zeros(config.dim)
        for noun in ("tokens", "segments", "positions"):
            name = f"{at}embedding.{noun}"
            if name in self.run.catalogue and name != leave_out:
                x = x + self.read(name)
        if config.embedding.norm is not None:
            x = self.norm(f"{at}embedding.norm", x)
        for layer in range(self.stack.layers):
            for name in ("attention", "cross_attention", "feedforward"):
                x = self.sublayer(f"{at}layers.{layer}", name, x, leave_out)
        if self.stack.final_norm:
            x = self.norm(f"{at}final_norm", x)
        first = "encoder." if at else ""
        table = f"{first}embedding.tokens.weight" if config.head.tied else "head.weight"
        logit = float(x @ self.run.weight(table)[id]) * config.head.scale
        return logit + (float(self.run.weight("head.bias")[id]) if config.head.bias else 0.0)

    def sublayer(self, layer: str, name: str, x: np.ndarray, leave_out: str) -> np.ndarray:
        if f"{layer}.{name}.output" not in self.run.catalogue:
            return x
        written = f"{layer}.{name}.output"
        if "output" in self.stack.norm_places:
            written = f"{layer}.{name}_norm.output.output"
        if f"{layer}.{name}" != leave_out:
            x = x + self.read(written)
        if "residual" in self.stack.norm_places:
            x = self.norm(f"{layer}.{name}_norm.residual", x)
        return x

    def norm(self, at: str, x: np.ndarray) -> np.ndarray:
        catalogue = self.run.catalogue
        mean = x.mean() if f"{at}.mean" in catalogue else 0.0
        offset = catalogue[f"{at}.output"].operation.offset  # type: ignore[attr-defined]
        y = (x - mean) / self.read(f"{at}.scale")
        y = y * (self.run.weight(f"{at}.weight") + offset)
        return y + self.run.weight(f"{at}.bias") if f"{at}.mean" in catalogue else y


@pytest.mark.parametrize(("family", "shape"), marked(LINEAR))
def test_what_an_edit_writes_is_a_part_of_its_own(family: str, shape: str) -> None:
    run = plain(family, shape, "float64")
    at = "decoder." if run.sources else ""
    config = golden(family, shape).checkpoint.config
    stack = config.stacks["decoder" if run.sources else config.kind]
    layer = f"{at}layers.{stack.layers - 1}"
    edits: list[Edit] = [
        Add(f"{layer}.residual_in", 0.5),
        Zero(f"{layer}.attention.output"),
        Scale(f"{layer}.attention_norm.added", 1.5),
        Scale(f"{layer}.residual_out", 0.5),
        Add("head.logits", 2.0),
        Add(f"{at}embedding.sum", 0.25),
    ]
    normed = next(
        (at for at in run.catalogue if at.startswith(layer) and at.endswith("residual.output")),
        f"{at}final_norm.output",
    )
    edits.append(Scale(normed, 1.25))
    changed = traced(family, shape, "float64", edits=edits)
    for options in ({}, {"by_head": True, "sources": True}):
        found = attribute(changed, **options)  # type: ignore[arg-type]
        assert abs(found.remainder) <= 1e-10 * size(found)
        named = {name for name, _ in found.parts if name.startswith("edit:")}
        wanted = {f"edit:{edit.address}" for edit in edits}
        if not options:
            wanted -= {f"edit:{layer}.attention.output"}
        assert named == wanted


def test_a_bent_head_is_refused() -> None:
    bent = next(case for case in WITH_HEAD if case not in LINEAR)
    with pytest.raises(TraceError, match="activation"):
        attribute(plain(*bent))
    without = next(case for case in CASES if case not in WITH_HEAD)
    with pytest.raises(TraceError, match="no logits"):
        attribute(plain(*without))


def test_defaults_and_names() -> None:
    run = plain(*LINEAR[0])
    found = attribute(run)
    assert (found.position, found.id) == (len(run.ids) - 2, run.ids[-1])
    middle = attribute(run, position=4)
    assert middle.id == run.ids[5]
    assert attribute(run, DECODER.bytes_of(run.ids[5]).decode("latin-1"), 4).id == run.ids[5]
    assert attribute(run, position=-1).position == run.length - 1
    assert run.length == len(run.ids) - 1
    json = found.to_json()
    assert json["total"] + json["remainder"] == pytest.approx(found.logit)
    assert json["parts"][0] == {"name": found.parts[0].name, "value": found.parts[0].value}


@pytest.mark.parametrize(
    ("word", "position"), [(None, 99), (10_000, None), ("no such", None), (-1, 0)]
)
def test_what_is_not_there_is_said(word: str | int | None, position: int | None) -> None:
    with pytest.raises(TraceError):
        attribute(plain(*LINEAR[0]), word, position)
