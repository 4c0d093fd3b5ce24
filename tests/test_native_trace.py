"""The glass on the native engine: its runs verify, what is replayed is what was seen to the bit,
and an edit does what it does in the readable model.
"""

from __future__ import annotations

from dataclasses import replace
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
from lucidlm.trace.record import Subject
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
