"""Vectors of a trace as JSON has them: by their first values and their length."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucidlm.errors import TraceError
from lucidlm.reference.equations import wide
from lucidlm.trace.numbers import short
from lucidlm.trace.operations import Doubles
from lucidlm.trace.run import Run

FIRST = 8  # values of a vector that are shown


def row(run: Run, address: str, position: int) -> Doubles | None:
    """A site at one position in float64; None where the trace was opened without its model and did
    not keep it.
    """
    try:
        return wide(run.read(address)[position])
    except TraceError:
        return None


def vector(run: Run, address: str, position: int) -> dict[str, Any] | None:
    """A vector's size, first values, and length (the root of the sum of squares)."""
    values = row(run, address, position)
    if values is None:
        return None
    return {
        "address": address,
        "size": values.size,
        "first": [short(float(value)) for value in values[:FIRST]],
        "length": short(float(np.sqrt(values @ values))),
    }
