"""The glass on the native engine: its runs verify, what is replayed is what was seen to the bit,
and an edit does what it does in the readable model.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import CASES, golden
from recorded import apart, subject, trace, traces
from test_trace_edits import KINDS, edits
from test_trace_verify import SAMPLED

from lucidlm.engine import ForwardContext
from lucidlm.errors import TraceError
from lucidlm.trace.edits import Patch
from lucidlm.trace.explain import explain
from lucidlm.trace.operations import Round
from lucidlm.trace.record import Subject
from lucidlm.trace.trace import Trace
from lucidlm.trace.verify import verify

pytest.importorskip("lucidlm.backends._native")
from test_native import native


def on_native(family: str, shape: str, **options: Any) -> Subject:
    case = golden(family, shape)
    return replace(subject(case, **options), engine=native(case))


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_every_number_follows(family: str, shape: str) -> None:
    run = trace(golden(family, shape), on=on_native(family, shape), sampling=SAMPLED)
    found = verify(run)
    assert not [check for check in found.by_site if not check.ok]
    assert found.failed == 0
    assert found.replay_drift == 0.0


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_replayed_is_seen_bit_for_bit(family: str, shape: str) -> None:
    """In a batch, in pieces, with a cache: against one layer at a time from recorded residuals."""
    case = golden(family, shape)
    on = on_native(family, shape, rows=(0, 1), lengths=(9, 6))
    options = {} if case.checkpoint.config.kind == "encoder" else {"prefill_chunk": 4}
    seen = traces(case, on=on, keep=["*"], **options)[0]
    replayed = trace(case, on=on_native(family, shape))
    assert seen.ids == replayed.ids
    for address in sorted(seen.backing.addresses):
        one, other = seen.read(address), replayed.read(address)
        both = ~np.isnan(one) & ~np.isnan(other)  # products with keys that were not there yet
        assert np.array_equal(one[both], other[both]), address
        assert both.all() or address.endswith((".products", ".position_bias"))


@pytest.mark.parametrize(("family", "shape"), [*KINDS, ("llama", "llama 3"), ("t5", "v1.0")])
def test_an_edit_does_what_it_does_in_the_readable_model(family: str, shape: str) -> None:
    case = golden(family, shape)
    on = on_native(family, shape)
    plain = trace(case, new=4)
    for edit in edits(plain):
        if isinstance(edit, Patch) or "cross_attention.value" in edit.address:
            continue
        theirs = trace(case, new=4, edits=[edit], keep=["*"])
        live = trace(case, on=on, new=4, edits=[edit], keep=["*"])
        again = trace(case, on=on, new=4, edits=[edit])
        assert live.ids == theirs.ids == again.ids, edit.address
        for address in sorted(theirs.backing.addresses):
            gap = apart(live.read(address), theirs.read(address))
            assert gap < 5e-5, (edit.address, address, gap)
            gap = apart(again.read(address), theirs.read(address))
            assert gap < 5e-5, (edit.address, address, gap)


def test_a_tracer_that_changes_values_afterwards_is_refused() -> None:
    case = golden("llama", "llama 3")
    engine = native(case)

    def doubled(path: str, name: str, value: Any) -> Any:
        return value * 2 if name == "mixed" else value

    with pytest.raises(TraceError, match=r"layers\.0\.attention\.mixed"):
        engine.step([[1, 2]], ForwardContext(tracer=doubled))


def test_an_edit_that_fails_says_so() -> None:
    """Also where it fails on another thread, in the middle of a step."""
    engine = native(golden("llama", "llama 3"))

    class Failing:
        looks_at: frozenset[tuple[str, str]] = frozenset()
        changes = frozenset({("layers.0.attention", "mixed")})

        def change(self, *_: Any) -> Any:
            raise ZeroDivisionError("here")

        def __call__(self, path: str, name: str, value: Any) -> Any:
            return value

    with pytest.raises(ZeroDivisionError, match="here"):
        engine.step([[1, 2, 3, 4]], ForwardContext(tracer=Failing()))
    assert engine.step([[1, 2]], ForwardContext()).shape == (1, 61)


@pytest.mark.parametrize("format", ["Q8_0", "Q4_1", "BF16"])
@pytest.mark.parametrize(("family", "shape"), CASES)
def test_every_number_follows_from_what_was_rounded(family: str, shape: str, format: str) -> None:
    case = golden(family, shape)
    on = replace(subject(case), engine=native(case, format=format))
    run = trace(case, on=on, keep=["*"])
    found = verify(run)
    assert not [check.address for check in found.by_site if not check.ok]
    assert found.failed == 0 and found.replay_drift == 0.0
    derived = [a for a, s in run.catalogue.items() if isinstance(s.operation, Round)]
    assert bool(derived) == bool(on.engine.rounding)
    assert format == "BF16" or derived or case.checkpoint.config.dim % 32


@pytest.mark.parametrize("format", ["Q8_0", "BF16"])
def test_a_rounded_number_is_explained(format: str, tmp_path: Path) -> None:
    case = golden("llama", "llama 3")
    engine = native(case, format=format)
    if not engine.rounding:
        engine.rounding = dict.fromkeys(engine._weights.matrices, "bfloat16")  # as others would
    run = trace(case, on=replace(subject(case), engine=engine))
    end = "" if format == "Q8_0" else "_bfloat16"
    for name, cell in (
        ("layers.0.attention.rounded", "position=2, dim=5"),
        ("layers.1.attention.rounded_mixed", "position=1, head=1, head_dim=3"),
        ("layers.1.feedforward.rounded_inner", "position=3, hidden=40"),
        ("head.rounded", "position=0, dim=9"),
    ):
        if f"{name}{end}" not in run.catalogue:
            assert format == "Q8_0" and name.endswith(("mixed", "inner"))  # rows of half a block
            continue
        found = explain(run, f"{name}{end}[{cell}]", depth=1)
        assert found.total == found.value
        assert found.inner and found.words("en") and found.words("zh")
        found.save_operands(tmp_path / "operands.npz")
        script = found.program(tmp_path / "operands.npz")
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
        assert float(said.stdout.split()[-1]) == found.value
        if name.startswith("head"):
            continue
        product = explain(run, name.rpartition(".")[0] + READS[name.rpartition(".")[2]])
        assert format == "BF16" or product.agrees
        assert all(term.factors[0][0].startswith(f"{name}{end}[") for term in product.top(3))


READS = {  # a cell that reads each of these
    "rounded": ".query[position=2, head=0, head_dim=1]",
    "rounded_mixed": ".output[position=2, dim=1]",
    "rounded_inner": ".output[position=2, dim=1]",
}


def test_a_rounded_site_may_be_wished_for() -> None:
    """It is derived: there is nothing to keep, and it is there."""
    case = golden("llama", "llama 3")
    on = replace(subject(case), engine=native(case, format="Q8_0"))
    run = trace(case, on=on, keep=["*.rounded"])
    assert run["head.rounded"].shape == run["final_norm.output"].shape


def test_a_saved_trace_knows_what_was_rounded(tmp_path: Path) -> None:
    case = golden("llama", "llama 3")
    engine = native(case, format="Q8_0")
    run = trace(case, on=replace(subject(case), engine=engine))
    run.save(tmp_path / "run.safetensors")
    opened = Trace.open(tmp_path / "run.safetensors")
    assert list(opened.catalogue) == list(run.catalogue)
    with_model = Trace.open(tmp_path / "run.safetensors", engine)
    assert verify(with_model).failed == 0
