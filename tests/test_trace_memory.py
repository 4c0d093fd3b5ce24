"""Looking does not pile up: a long run whose values go to disk, and many short ones in a row."""

from __future__ import annotations

import ctypes
import resource
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import golden
from recorded import DECODER, subject, trace

from lucidlm.families import families
from lucidlm.generate import GenerationSettings
from lucidlm.model.engine import TorchEngine, build
from lucidlm.parameters import parameters
from lucidlm.trace.record import Recording, Subject, record

STATUS = Path("/proc/self/statm")
MB = 1_000_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not STATUS.exists(), reason="memory is read from /proc"),
]


def resident() -> int:
    """Bytes of memory that the process holds; what the allocator can give back is given back."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    return int(STATUS.read_text().split()[1]) * resource.getpagesize()


class Weighed:
    """An engine, and after each step the memory of the process beyond the engine's cache."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine = engine
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def step(self, ids: Any, ctx: Any) -> Any:
        logits = self.engine.step(ids, ctx)
        self.sizes.append(resident() - ctx.cache.nbytes)
        return logits


def long_reader() -> Weighed:
    """A Llama of four layers with room for 1,100 positions, and random weights."""
    family = families()["llama"]
    sizes = {"num_hidden_layers": 4, "max_position_embeddings": 1100}
    config = family.read({**family.tiny["llama 3"], **sizes})
    rng = np.random.default_rng(0)
    weights = {
        at: rng.standard_normal(shape).astype(np.float32) * 0.2 + ("norm" in at)
        for at, shape in parameters(config).items()
    }
    return Weighed(build(config, weights.items()))


def test_a_thousand_tokens_with_everything_kept_take_no_more_memory() -> None:
    engine = long_reader()
    on = Subject(
        name="long",
        engine=engine,
        config=engine.model.config,
        decoder=DECODER,
        prompts=[[5, 9, 33, 7, 12, 40]],
    )
    settings = GenerationSettings(max_new_tokens=1000)
    run = record(on, settings, Recording(keep=["*"], spill=True))[0]
    assert len(run.chosen) == len(engine.sizes) == 1000
    begun = statistics.median(engine.sizes[10:30])
    assert max(engine.sizes[30:]) - begun < 50 * MB
    kept = sum(
        np.asarray(run.read(f"layers.{layer}.attention.{name}")).nbytes
        for layer in range(4)
        for name in ("products", "scores", "pattern")
    )
    assert kept > 150 * MB  # these alone would have been more


def test_many_traces_do_not_grow_the_process() -> None:
    case = golden("llama", "llama 3")
    on = subject(case)
    for _ in range(20):
        trace(case, on=on, keep=["*"])
    before = resident()
    for _ in range(200):
        trace(case, on=on, keep=["*"])
    assert resident() - before < 8 * MB
