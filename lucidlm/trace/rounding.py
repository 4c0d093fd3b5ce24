"""How far a recorded value may be from what its arithmetic makes: as far as rounding takes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lucidlm.trace.operations import Array, Doubles
from lucidlm.trace.operations.round import to_bfloat16
from lucidlm.trace.run import Run
from lucidlm.trace.site import Site

# Of the engine's own type: each operation reads recorded values, so its error is a few roundings of
# what it adds up, and in a long sum some tens of them.
ROUNDINGS = 64
# bfloat16 is what values are kept in; sums are made in float32, so that only a handful count.
FEW_ROUNDINGS = 8
# A value seen in the run against one that follows from a recomputed value: a whole part of the
# model, added up in another order, lies between the two.
REPLAYED = 16


def epsilon(dtype: str) -> float:
    """The distance from 1 to the next number of a floating type."""
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


def least(dtype: str) -> float:
    """The smallest magnitude: below the normal numbers roundings do not shrink any further."""
    return float(np.finfo("float32" if dtype == "bfloat16" else dtype).tiny) / epsilon(dtype)


def rounded(value: Doubles, stored: np.dtype[Any], dtype: str) -> Doubles:
    """`value` as `dtype` holds it, in an array of type `stored`. bfloat16, which NumPy does not
    have, is stored as float32.
    """
    if stored.kind != "f":
        return value
    with np.errstate(over="ignore"):
        narrow = value.astype(stored)
    if dtype == "bfloat16" and stored == np.float32:
        narrow = to_bfloat16(narrow)
    return narrow.astype(np.float64)


def dtype_of(run: Run, site: Site) -> str:
    """The type that a site is computed in: the sampler has its own."""
    return "float32" if site.part == "sampling" else run.dtype


def tolerance(run: Run, site: Site) -> float:
    """The difference that rounding may make at `site`, as a share of the magnitude."""
    dtype = dtype_of(run, site)
    roundings = FEW_ROUNDINGS if dtype == "bfloat16" else ROUNDINGS
    return roundings * (REPLAYED if crosses(run, site) else 1) * epsilon(dtype)


def crosses(run: Run, site: Site) -> bool:
    """Whether the site was seen in the run and something that it reads is recomputed, or the other
    way round. What a part is replayed from is the same on both sides.
    """
    if site.part == "sampling":  # reads what was seen
        return False
    read = list(_read(run, site))
    if run.is_seen(site.address):
        return not all(run.is_seen(source.address) for source in read)
    inside = [source for source in read if source.part == site.part]
    begin = "layer.residual_in"
    return any(run.is_seen(source.address) for source in inside if source.key != begin)


def _read(run: Run, site: Site) -> Iterator[Site]:
    """The sites that `site` reads; of one that is derived, what it is derived from."""
    for name in site.operation.inputs:
        if (source := run.catalogue.get(name)) is not None:
            yield from _read(run, source) if source.derived else (source,)


def row_magnitude(values: Array) -> Doubles:
    """(..., 1) the largest finite |value| along the last axis: where a site crosses, errors of the
    part between are as large as its largest numbers allow, everywhere.
    """
    sizes = np.abs(np.asarray(values, np.float64))
    largest: Doubles = np.where(np.isfinite(sizes), sizes, 0.0).max(-1, keepdims=True, initial=0.0)
    return largest
