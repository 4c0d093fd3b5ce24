"""Models of a lesson's own, set by hand: written as a checkpoint folder, loaded and watched."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import lucidlm
from lucidlm.lessons.kinds import Array
from lucidlm.trace.capture import capture


def opened(write: Callable[[Path], Path]) -> lucidlm.Model:
    """The model that `write` puts into a folder, which is gone when it is loaded."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return lucidlm.load(str(write(Path(folder))), dtype="float64")


def watched(
    model: lucidlm.Model, ids: Sequence[int], source: Sequence[int] | None = None
) -> dict[str, Array]:
    """Every value of one forward pass over `ids`, by address; `source` is for the encoder."""
    assert model.config is not None
    seen = capture(model.engine, model.config, ids, source)
    return {address: values.astype(np.float64) for address, values in seen.items()}
