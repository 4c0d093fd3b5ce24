"""Every family in every phase: the taps that fire are the catalogue, every value of every site is
what the reference makes of the ids in one whole pass, and every value follows from those before it.

The reference shares no code with the model that ran, and computes in float64. That a value follows
from those before it, which `verify` says of each, cannot show an error that is passed on unseen;
this can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from captured import Captured, capture
from golden import CASES, MORE, Golden, golden
from recorded import apart, subject, traces
from shapes import marked

from lucidlm.engine import Engine, ForwardContext
from lucidlm.generate import SamplingSettings
from lucidlm.reference.engine import Reference
from lucidlm.trace.site import Site
from lucidlm.trace.sites import catalogue
from lucidlm.trace.trace import Trace

# Of the largest value of a site, after a whole forward pass.
CLOSE = {"float32": 3e-5, "float64": 1e-12}
OUTSIDE = {"sampling", "tokenizer"}
UNSEEN = (".products", ".position_bias")
SAMPLED = SamplingSettings(temperature=0.9, top_k=30, top_p=0.95, repetition_penalty=1.1, seed=5)
PHASES: dict[str, dict[str, Any]] = {
    "prefill": {"new": 1},
    "chunked prefill": {"new": 1, "prefill_chunk": 4},
    "cached decode": {"new": 5, "sampling": SAMPLED},
    "batch": {"rows": (0, 1), "lengths": (9, 6), "new": 3, "prefill_chunk": 5},
    "beams": {"beams": 3, "new": 4},
}
KINDS = ("encode", "first", "later")


def phases(case: Golden) -> dict[str, dict[str, Any]]:
    """How a model of this kind is run: an encoder alone reads, whole."""
    if case.checkpoint.config.kind == "encoder":
        return {name: PHASES[name] for name in ("prefill", "batch")}
    return PHASES


def run(case: Golden, engine: Engine, options: Mapping[str, Any], **more: Any) -> list[Trace]:
    """A trace of every sequence of a phase: one, those of a batch, or the hypotheses of a beam."""
    chosen = {"rows": (0,), "lengths": (9,), **options, **more}
    on = subject(case, engine.dtype, chosen.pop("rows"), chosen.pop("lengths"))
    found = traces(case, on=replace(on, engine=engine), **chosen)
    return [each for one in found for each in one.hypotheses or (one,)]


@cache
def reference(family: str, shape: str) -> Reference:
    checkpoint = golden(family, shape).checkpoint
    return Reference(checkpoint.config, checkpoint.weights())


@cache
def whole(case: tuple[str, str], ids: tuple[int, ...], source: tuple[int, ...]) -> Captured:
    """Every value of one pass of the reference over all ids."""
    engine = reference(*case)
    return capture(engine, engine.config, ids, source or None)


@pytest.mark.parametrize(("family", "shape"), marked([*CASES, *MORE]))
@pytest.mark.parametrize("dtype", CLOSE)
def test_every_value_of_every_site_in_every_phase(family: str, shape: str, dtype: str) -> None:
    case = golden(family, shape)
    engine = case.engine(dtype)
    for phase, options in phases(case).items():
        for trace in run(case, engine, options, keep=["*"]):
            source = tuple(token.id for token in trace.sources)
            wanted = whole((family, shape), trace.ids[: trace.length], source)
            assert trace.verify().failed == 0, phase
            for site in trace.catalogue.values():
                if site.part not in OUTSIDE:
                    gap = compare(trace, wanted, site)
                    assert gap < CLOSE[dtype], (phase, site.address, gap)
            for position in trace.chosen:
                logits = wanted.read("head.logits")[position - 1]
                assert apart(trace.sampled(position).logits, logits) < CLOSE["float32"], phase


def compare(trace: Trace, wanted: Captured, site: Site) -> float:
    """How far a whole site is from the reference's."""
    found = np.asarray(trace.read(site.address))
    assert found.shape == site.shape(trace.length, trace.source_length), site.address
    assert site.derived or found.dtype == trace.dtype, site.address
    # what the run had no need of: products with keys behind the query, and nothing else
    unseen = np.triu(np.ones(found.shape[-2:], bool), 1) if site.key.endswith(UNSEEN) else False
    assert not (np.isnan(found) & ~np.asarray(unseen)).any(), site.address
    right = site.operation.compute(wanted).value if site.derived else wanted.read(site.address)
    return apart(found, right)


class Listening:
    """An engine, and which taps fired in each pass."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.passes: list[tuple[str, set[str]]] = []  # "encode", or how much had been read

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def encode(self, ids: Any, ctx: ForwardContext) -> Any:
        return self.engine.encode(ids, self._heard("encode", ctx))

    def step(self, ids: Any, ctx: ForwardContext) -> Any:
        is_first = ctx.cache is None or not any(ctx.cache.lengths)
        return self.engine.step(ids, self._heard("first" if is_first else "later", ctx))

    def _heard(self, kind: str, ctx: ForwardContext) -> ForwardContext:
        fired: set[str] = set()
        self.passes.append((kind, fired))

        def listen(path: str, name: str, value: Any) -> Any:
            fired.add(f"{path}.{name}")
            return value if ctx.tracer is None else ctx.tracer(path, name, value)

        return replace(ctx, tracer=listen)


@pytest.mark.parametrize(("family", "shape"), marked([*CASES, *MORE]))
def test_in_every_phase_the_taps_are_the_catalogue(family: str, shape: str) -> None:
    """The passes that begin show all of it; what comes later, all but what is read once: the
    source, and what cross-attention keeps of it.
    """
    case = golden(family, shape)
    sites = catalogue(case.checkpoint.config)
    named = {a for a, site in sites.items() if not site.derived and site.part not in OUTSIDE}
    of_the_source = {a for a in named if "positions" not in sites[a].sizes}
    engine = Listening(case.engine())
    for phase, options in phases(case).items():
        engine.passes.clear()
        run(case, engine, options)
        begin = {kind: set().union(*(f for k, f in engine.passes if k == kind)) for kind in KINDS}
        assert begin["encode"] | begin["first"] == named, phase
        later = [fired for kind, fired in engine.passes if kind == "later"]
        assert all(fired == named - of_the_source for fired in later), phase
        goes_on = phase != "prefill" and case.checkpoint.config.kind != "encoder"
        assert bool(later) == goes_on, phase
