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
from lucidlm.trace.rounding import (
    crosses,
    dtype_of,
    least,
    rounded,
    row_magnitude,
    tolerance,
)
from lucidlm.trace.rows import LOOKS
from lucidlm.trace.run import Run
from lucidlm.trace.site import Site


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


def verify(run: Run, sites: Iterable[str] | None = None) -> Verification:
    """Compute every site of `run`, or those named, from the recorded values that it reads.

    Cells that an edit wrote, and products with keys that the run never looked at, are not compared.
    A trace opened without its model shows what needs no weights and was kept. Raises UnknownName
    for a site that does not exist.
    """
    wanted = None if sites is None else {run.site(name).address for name in sites}
    # in the order of computation, so that a part is replayed once
    checks = [_check(run, site) for site in _checkable(run, wanted)]
    drift = max(run.drift.values(), default=0.0)
    return Verification(
        model=run.name, positions=run.length, by_site=tuple(checks), replay_drift=drift
    )


def _checkable(run: Run, wanted: Collection[str] | None) -> Iterable[Site]:
    for site in run.catalogue.values():
        if site.derived or site.part == "tokenizer":
            continue
        if site.part == "sampling" and not run.chosen:
            continue
        there = run.engine is not None or all(
            _is_kept(run, name) for name in (site.address, *site.operation.inputs)
        )
        if there and (wanted is None or site.address in wanted):
            yield site


def _is_kept(run: Run, name: str) -> bool:
    """Whether a trace without its model has it: weights it never has."""
    if name in run.catalogue:
        return run.is_seen(name)
    return not name.endswith((".weight", ".bias"))


def _check(run: Run, site: Site) -> SiteCheck:
    recorded = np.asarray(run.read(site.address))
    computed = site.operation.compute(run)
    assert recorded.shape == computed.value.shape, site.address
    dtype, value, magnitude = dtype_of(run, site), computed.value, computed.magnitude
    if crosses(run, site):
        magnitude = np.maximum(row_magnitude(value), 0.0 if magnitude is None else magnitude)
    exact = magnitude is None
    if magnitude is None:
        value = rounded(value, recorded.dtype, dtype)
        magnitude = np.abs(value)
    edited = _edited(run, site, recorded.shape)
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
        worst_address=_worst_address(run, site, relative, compared),
        tolerance=0.0 if exact else tolerance(run, site),
        exact=exact,
    )


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


def _edited(run: Run, site: Site, shape: Sequence[int]) -> NDArray[np.bool_]:
    edited = np.zeros(tuple(shape), np.bool_)
    for edit in run.edits:
        if edit.site.address == site.address:
            edited |= edit.mask(shape)
    return edited


def _never_computed(site: Site, found: Doubles) -> NDArray[np.bool_]:
    """Products of a query with a key that was not there yet when it asked."""
    if site.axes != LOOKS:
        return np.zeros(found.shape, np.bool_)
    _, queries, keys = found.shape
    return np.isnan(found) & (np.arange(keys) > np.arange(queries)[:, None])


def _worst_address(run: Run, site: Site, relative: Array, compared: NDArray[np.bool_]) -> str:
    if not compared.any():
        return ""
    worst = int(np.argmax(np.where(compared, relative, -1.0)))
    at: Index = tuple(map(int, np.unravel_index(worst, relative.shape)))
    first = at[0] + run.start(site.address)
    return cell(site.address, *zip(site.axes, (first, *at[1:]), strict=True))
