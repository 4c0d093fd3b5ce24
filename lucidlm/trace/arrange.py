"""From an engine's arrays to a trace's: heads behind positions, no axes of size one, no padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucidlm.trace.operations import Array
from lucidlm.trace.rows import BY_HEAD, HEADS, ONE
from lucidlm.trace.site import Site


def to_array(value: Any) -> Array:
    """A tap's value as NumPy; bfloat16, which NumPy does not have, as float32."""
    if hasattr(value, "cpu"):
        value = value.cpu()
    try:
        return np.asarray(value)
    except TypeError:
        return np.asarray(value.float())


def arrange(site: Site, row: Array) -> Array:
    """One row of a tap's value, without the batch axis, along `site`'s axes. A view."""
    if site.axes == HEADS:
        return row.swapaxes(0, 1)  # (H, T, D) -> (T, H, D)
    if site.axes == BY_HEAD:
        return row[..., 0].T  # (H, T, 1) -> (T, H)
    return row[..., 0] if site.axes == ONE else row  # (T, 1) -> (T,)
