"""Is every number what its equation makes of the numbers before it? All of a trace again, in
float64, site by site.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lucidlm.trace.operations import Array, Doubles, Index, cell
from lucidlm.trace.rows import LOOKS
from lucidlm.trace.run import Run
from lucidlm.trace.sites import Site

# Of the engine's own type: each operation reads recorded values, so its error is a few roundings of
# what it adds up, and in a long sum some tens of them.
ROUNDINGS = 64
# bfloat16 is what values are kept in; sums are made in float32, so that only a handful count.
FEW_ROUNDINGS = 8
# A value seen in the run against one that follows from a recomputed value: a whole part of the
# model, added up in another order, lies between the two.
REPLAYED = 16


@dataclass(frozen=True, kw_only=True)
class SiteCheck:
    """One site, recorded and computed.

    A relative difference is a share of the magnitude: the sum of the absolute values of what was
    added up. `exact`: the engine rounds once here, so nothing but the value itself will do.
    `worst_address` is the cell with the largest relative difference.
    """

    address: str
    values: int  # compared
    edited: int  # cells left out, because an edit wrote them
    max_absolute: float
    max_relative: float
    worst_address: str
    tolerance: float
    exact: bool

    @property
    def ok(self) -> bool:
        return self.max_relative <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What came of a whole trace. `replay_drift` is the largest difference between what a replayed
    layer put out and what the run went on with, as a share of the largest value at that position.
    """

    model: str
    positions: int
    by_site: tuple[SiteCheck, ...]
    replay_drift: float

    @property
    def sites(self) -> int:
        return len(self.by_site)

    @property
    def values(self) -> int:
        return sum(check.values for check in self.by_site)

    @property
    def edited(self) -> int:
        return sum(check.edited for check in self.by_site)

    @property
    def failed(self) -> int:
        """Sites with a value outside the tolerance."""
        return sum(not check.ok for check in self.by_site)

    @property
    def max_relative(self) -> float:
        return max((check.max_relative for check in self.by_site), default=0.0)

    @property
    def worst_address(self) -> str:
        """The cell that is farthest off, among those outside the tolerance if there are any; ""
        where nothing was compared.
        """
        compared = [check for check in self.by_site if check.values]
        compared = [check for check in compared if not check.ok] or compared
        worst = max(compared, key=lambda check: check.max_relative, default=None)
        return "" if worst is None else worst.worst_address

    def to_json(self) -> dict[str, Any]:
        """`max_relative` is None where a value is not finite that should be."""
        return {
            "model": self.model,
            "positions": self.positions,
            "sites": self.sites,
            "values": self.values,
            "max_relative": self.max_relative if math.isfinite(self.max_relative) else None,
            "worst_address": self.worst_address,
            "failed": self.failed,
        }


def verify(trace: Run, sites: Iterable[str] | None = None) -> Verification:
    """Compute every site of `trace`, or those named, from the recorded values that it reads.

    Cells that an edit wrote, and products with keys that the run never looked at, are not compared.
    A trace opened without its model shows what needs no weights and was kept. Raises UnknownName
    for a site that does not exist.
    """
    wanted = None if sites is None else {trace.site(name).address for name in sites}
    # in the order of computation, so that a part is replayed once
    checks = [_check(trace, site) for site in _checkable(trace, wanted)]
    drift = max(trace.drift.values(), default=0.0)
    return Verification(
        model=trace.name, positions=trace.length, by_site=tuple(checks), replay_drift=drift
    )


def epsilon(dtype: str) -> float:
    """The distance from 1 to the next number of a floating type."""
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


def least(dtype: str) -> float:
    """The smallest magnitude: below the normal numbers roundings do not shrink any further."""
    return float(np.finfo("float32" if dtype == "bfloat16" else dtype).tiny) / epsilon(dtype)


def tolerance(trace: Run, site: Site) -> float:
    """The difference that rounding may make at a site that is not exact, as a share of the
    magnitude.
    """
    dtype = _dtype(trace, site)
    roundings = FEW_ROUNDINGS if dtype == "bfloat16" else ROUNDINGS
    return roundings * (REPLAYED if crosses(trace, site) else 1) * epsilon(dtype)


def crosses(trace: Run, site: Site) -> bool:
    """Whether the site was seen in the run and something that it reads is recomputed, or the other
    way round. What a part is replayed from is the same on both sides.
    """
    if site.part == "sampling":  # reads what was seen
        return False
    read = [trace.catalogue[name] for name in site.operation.inputs if name in trace.catalogue]
    if trace.is_seen(site.address):
        return not all(trace.is_seen(source.address) for source in read)
    inside = [source for source in read if source.part == site.part]
    begin = "layer.residual_in"
    return any(trace.is_seen(source.address) for source in inside if source.key != begin)


def _dtype(trace: Run, site: Site) -> str:
    """The type that a site is computed in: the sampler has its own."""
    return "float32" if site.part == "sampling" else trace.dtype


def _checkable(trace: Run, wanted: Collection[str] | None) -> Iterable[Site]:
    for site in trace.catalogue.values():
        if site.derived or site.part == "tokenizer":
            continue
        if site.part == "sampling" and not trace.chosen:
            continue
        there = trace.engine is not None or all(
            _is_kept(trace, name) for name in (site.address, *site.operation.inputs)
        )
        if there and (wanted is None or site.address in wanted):
            yield site


def _is_kept(trace: Run, name: str) -> bool:
    """Whether a trace without its model has it: weights it never has."""
    if name in trace.catalogue:
        return trace.is_seen(name)
    return not name.endswith((".weight", ".bias"))


def _check(trace: Run, site: Site) -> SiteCheck:
    recorded = np.asarray(trace.read(site.address))
    computed = site.operation.compute(trace)
    assert recorded.shape == computed.value.shape, site.address
    dtype, value, magnitude = _dtype(trace, site), computed.value, computed.magnitude
    if crosses(trace, site):
        # errors of the part between are as large as its largest numbers allow, everywhere
        row = np.abs(value).max(axis=-1, keepdims=True, initial=0.0)
        magnitude = row if magnitude is None else np.maximum(magnitude, row)
    exact = magnitude is None
    if magnitude is None:
        value = rounded(value, recorded.dtype, dtype)
        magnitude = np.abs(value)
    edited = _edited(trace, site, recorded.shape)
    found = recorded.astype(np.float64)
    absolute, relative = _differences(found, value, magnitude, dtype)
    compared = ~(edited | _never_computed(site, found))
    absolute, relative = (np.where(compared, a, 0.0) for a in (absolute, relative))
    return SiteCheck(
        address=site.address,
        values=int(compared.sum()),
        edited=int(edited.sum()),
        max_absolute=float(absolute.max(initial=0.0)),
        max_relative=float(relative.max(initial=0.0)),
        worst_address=_worst_address(trace, site, relative, compared),
        tolerance=0.0 if exact else tolerance(trace, site),
        exact=exact,
    )


def rounded(value: Doubles, stored: np.dtype[Any], dtype: str) -> Doubles:
    """`value` as `dtype` holds it, in an array of type `stored`. bfloat16, which NumPy does not
    have, is stored as float32.
    """
    if stored.kind != "f":
        return value
    with np.errstate(over="ignore"):
        narrow = value.astype(stored)
    if dtype == "bfloat16" and stored == np.float32:
        # to the nearest, ties to even, as the hardware does: the upper half of the bits
        bits = narrow.view(np.uint32)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        narrow = np.where(np.isfinite(narrow), bits.view(np.float32), narrow)
    return narrow.astype(np.float64)


def _differences(
    found: Doubles, value: Doubles, magnitude: Doubles, dtype: str
) -> tuple[Doubles, Doubles]:
    """|found - value|, and that as a share of `magnitude`; both infinite where only one of the two
    is finite.
    """
    agree = (found == value) | (np.isnan(found) & np.isnan(value))
    with np.errstate(invalid="ignore"):
        absolute = np.where(agree, 0.0, np.abs(found - value))
        absolute[np.isnan(absolute)] = np.inf
        relative = absolute / np.maximum(magnitude, least(dtype))
    relative[~agree & ~np.isfinite(relative)] = np.inf
    return absolute, np.where(agree, 0.0, relative)


def _edited(trace: Run, site: Site, shape: Sequence[int]) -> NDArray[np.bool_]:
    edited = np.zeros(tuple(shape), np.bool_)
    for edit in trace.edits:
        if edit.site == site.address:
            edited |= edit.mask(shape)
    return edited


def _never_computed(site: Site, found: Doubles) -> NDArray[np.bool_]:
    """Products of a query with a key that was not there yet when it asked."""
    if site.axes != LOOKS:
        return np.zeros(found.shape, np.bool_)
    _, queries, keys = found.shape
    return np.isnan(found) & (np.arange(keys) > np.arange(queries)[:, None])


def _worst_address(trace: Run, site: Site, relative: Array, compared: NDArray[np.bool_]) -> str:
    if not compared.any():
        return ""
    worst = int(np.argmax(np.where(compared, relative, -1.0)))
    at: Index = tuple(map(int, np.unravel_index(worst, relative.shape)))
    first = at[0] + trace.start(site.address)
    return cell(site.address, *zip(site.axes, (first, *at[1:]), strict=True))
