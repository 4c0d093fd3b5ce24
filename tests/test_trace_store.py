"""Arrays that go to a file come back as they were, and memory holds nothing of them."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from golden import golden
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from recorded import trace

from lucidlm.errors import TraceError
from lucidlm.trace import store
from lucidlm.trace.store import Spill, write_all

PASSES = 300


@settings(max_examples=50, deadline=None)
@given(
    shapes=st.lists(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6), max_size=8),
    most=st.integers(1, 200),
    at_once=st.integers(1, 4),
)
def test_what_is_written_in_pieces_is_whole(
    shapes: Sequence[tuple[int, ...]], most: int, at_once: int
) -> None:
    """A system may take fewer bytes than it is given."""
    arrays = [np.random.default_rng(n).random(shape) for n, shape in enumerate(shapes)]

    def short(file: int, buffers: Sequence[memoryview]) -> int:
        assert len(buffers) <= at_once
        return os.write(file, b"".join(buffers)[:most])

    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "AT_ONCE", at_once)
        patch.setattr(store.os, "writev", short)
        size = write_all(file.fileno(), arrays)
        whole = b"".join(array.tobytes() for array in arrays)
        assert (size, os.pread(file.fileno(), size + 1, 0)) == (len(whole), whole)


def test_memory_does_not_grow_with_what_is_spilled() -> None:
    spill, numbers = Spill(lambda address: address == "scores"), np.random.default_rng(0)
    vector = numbers.random((1, 1, 5000), np.float32)

    def read(keys: int) -> Any:
        return spill.put({"vector": vector * keys, "scores": np.full((4, 1, keys), keys)}, keys)

    tracemalloc.start()
    passes = [read(keys) for keys in range(1, 31)]
    before, _ = tracemalloc.get_traced_memory()
    passes += [read(keys) for keys in range(31, PASSES + 1)]
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 1000 * PASSES < spill.end / 10
    for keys, values in enumerate(passes, start=1):
        np.testing.assert_array_equal(values["vector"], vector * keys)
        assert (values["scores"] == np.full((4, 1, keys), keys)).all()


def test_a_spilled_run_is_the_run() -> None:
    kept, spilled = (
        trace(golden("llama", "llama 3"), keep=["*"], new=6, spill=spill) for spill in (False, True)
    )
    for address in kept.backing.addresses:
        assert np.array_equal(kept.read(address), spilled.read(address), equal_nan=True)


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, buffers: Sequence[memoryview]) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "writev", full)
    with pytest.raises(TraceError, match="No space left on device"):
        trace(golden("llama", "llama 3"), spill=True)
