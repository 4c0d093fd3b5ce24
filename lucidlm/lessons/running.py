"""Models of a lesson's own, set by hand: written as a checkpoint folder, loaded and watched."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lucidlm
from lucidlm.engine import ForwardContext
from lucidlm.lessons.kinds import Array
from lucidlm.trace.arrange import arrange, to_array
from lucidlm.trace.sites import catalogue


def opened(write: Callable[[Path], Path]) -> lucidlm.Model:
    """The model that `write` puts into a folder, which is gone when it is loaded."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return lucidlm.load(str(write(Path(folder))), dtype="float64")


def watched(
    model: lucidlm.Model, ids: Sequence[int], source: Sequence[int] | None = None
) -> dict[str, Array]:
    """Every value of one forward pass over `ids`, by address; `source` is for the encoder."""
    assert model.config is not None
    sites = catalogue(model.config)
    values: dict[str, Array] = {}

    def keep(path: str, name: str, value: Any) -> Any:
        address = f"{path}.{name}"
        values[address] = arrange(sites[address], to_array(value)[0]).astype(np.float64)
        return value

    ctx = ForwardContext(cache=model.engine.cache(1), tracer=keep, every_position=True)
    if source is not None:
        model.engine.encode([source], ctx)
    model.engine.step([ids], ctx)
    return values
