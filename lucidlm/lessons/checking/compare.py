"""Whether what a function gave is what it should have given."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from lucidlm.lessons.checking.attention import Array
from lucidlm.lessons.checking.verdict import Status

# A cell is right within RELATIVE of itself and ABSOLUTE of the largest (of 1, if that is more):
# float32 is good enough, half precision is not.
RELATIVE, ABSOLUTE = 1e-4, 1e-5
FLOATS = ("float32", "float64")


def wrong_cells(found: Array, expected: Array) -> Array:
    """Where two arrays of one shape differ, as a mask; NaN equals NaN."""
    if expected.dtype.kind in "iu":
        return np.asarray(found != expected)
    with np.errstate(all="ignore"):
        finite = np.abs(expected[np.isfinite(expected)])
        allowed = RELATIVE * np.abs(expected) + ABSOLUTE * finite.max(initial=1.0)
        near = np.abs(found - expected) <= allowed
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    return np.asarray(~(np.where(np.isinf(expected), False, near) | same))


def agree(found: Array, expected: Array) -> bool:
    """Whether shape and every cell are right."""
    return found.shape == expected.shape and not wrong_cells(found, expected).any()


def to_array(value: Any) -> Array | None:
    """What a function gave as an array; None if it is neither array, tensor, number nor list of
    them.
    """
    if hasattr(value, "detach"):  # a tensor
        value = value.detach().cpu()
        value = value.float() if "float16" in str(value.dtype) else value
        return np.asarray(value.numpy())
    if isinstance(value, np.ndarray | np.generic | numbers.Number | list):
        try:
            array = np.asarray(value)
        except ValueError:  # rows of unequal length
            return None
        return array if array.dtype.kind in "biufc" else None
    return None


def kind_of(value: Any) -> str:
    """The type of what a function gave, as its author knows it: `float64`, `tuple`, `None`."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None:
        return str(dtype)
    return "None" if value is None else type(value).__name__


def fault_of(value: Any, array: Array | None, expected: Array) -> Status | None:
    """What is wrong with the form of a result, if anything is."""
    if array is None:
        return "type"
    wanted = array.dtype.kind in "iu" if expected.dtype.kind == "i" else array.dtype.name in FLOATS
    if not wanted or kind_of(value).endswith("float16"):
        return "dtype"
    return None if array.shape == expected.shape else "shape"
