"""Where two runs part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from lucidlm.errors import TraceError
from lucidlm.generate.sampling import largest
from lucidlm.reference.equations import softmax, wide
from lucidlm.trace.operations import Array, Doubles, cell
from lucidlm.trace.rounding import row_magnitude
from lucidlm.trace.run import Run
from lucidlm.trace.site import Site

NOISE = 1e-5  # two runs of the same numbers in another shape differ by rounding, less than this


@dataclass(frozen=True)
class LogitChange:
    """One word before and after: logit and probability."""

    id: int
    label: str
    logits: tuple[float, float]
    probabilities: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Diff:
    """What differs between two traces; `first` is None where nothing does."""

    common: int  # positions with the same ids
    first: str | None  # address of the first cell that differs, in order of computation
    values: tuple[float, float] | None  # there
    layers: tuple[tuple[str, float], ...]  # residual_in of each layer: largest relative difference
    position: int | None  # whose logits are compared: the last that both have
    changes: tuple[LogitChange, ...]  # largest first

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def diff(one: Run, other: Run, top: int = 5, noise: float = NOISE) -> Diff:
    """Compare two runs of one model over the positions at which they read the same ids.

    A cell differs where the values are further apart than `noise` times the largest at its
    position; 0 asks for equal bits. Raises TraceError for two models of different shape.
    """
    if one.config != other.config:
        raise TraceError("trace.diff_models", one=one.name, other=other.name)
    if [t.id for t in one.sources] != [t.id for t in other.sources]:
        return Diff(
            common=0, first="encoder.ids", values=None, layers=(), position=None, changes=()
        )
    common = _common(one, other)
    sites = [site for site in one.catalogue.values() if site.is_computed]
    layers = tuple(
        (site.address, float(_gaps(one, other, site, common).max(initial=0.0)))
        for site in sites
        if site.address.endswith("residual_in")
    )
    found = _first(one, other, sites, common, noise)
    position = common - 1 if common else None
    changes = _changes(one, other, position, top) if position is not None else ()
    first, values = found or (None, None)
    if found is None and one.ids != other.ids:
        pairs = enumerate(zip_longest(one.ids, other.ids))
        first = cell("ids", ("position", next(n for n, (a, b) in pairs if a != b)))
    return Diff(
        common=common,
        first=first,
        values=values,
        layers=layers,
        position=position,
        changes=changes,
    )


def _common(one: Run, other: Run) -> int:
    """How many positions both have read with the same ids."""
    most = min(one.length, other.length)
    same = [a == b for a, b in zip(one.ids[:most], other.ids[:most], strict=True)]
    return same.index(False) if False in same else most


def _first(
    one: Run, other: Run, sites: Iterable[Site], common: int, noise: float
) -> tuple[str, tuple[float, float]] | None:
    """The first cell that differs, and what stands there."""
    for site in sites:
        places = np.argwhere(_gaps(one, other, site, common) > noise)
        if len(places):
            place = tuple(int(n) for n in places[0])
            a, b = (float(_cut(run, site, common)[place]) for run in (one, other))
            return cell(site.address, *zip(site.axes, place, strict=True)), (a, b)
    return None


def _gaps(one: Run, other: Run, site: Site, common: int) -> Doubles:
    """|a - b| cell by cell, as a share of the largest value along the last axis."""
    a, b = (wide(_cut(run, site, common)) for run in (one, other))
    both = np.isfinite(a) & np.isfinite(b)
    scale = row_magnitude(np.where(both, a, 0.0))
    with np.errstate(invalid="ignore"):
        gaps = np.where(both, np.abs(a - b), 0.0) / np.where(scale > 0, scale, 1.0)
    lost = (np.isfinite(a) != np.isfinite(b)) & ~np.isnan(a) & ~np.isnan(b)
    result: Doubles = np.where(lost, np.inf, gaps)
    return result


def _cut(run: Run, site: Site, common: int) -> Array:
    """A site over the positions in common."""
    values: Array = run.read(site.address)
    if run.source_length and site.address.startswith("encoder."):
        return values
    cut = tuple(slice(common) if size == "positions" else slice(None) for size in site.sizes)
    return np.atleast_1d(values[cut])


def _changes(one: Run, other: Run, position: int, top: int) -> tuple[LogitChange, ...]:
    if "head.logits" not in one.catalogue:
        return ()
    a, b = (wide(run.read("head.logits")[position]) for run in (one, other))
    p, q = softmax(a), softmax(b)
    ids = largest(np.abs(b - a), top)
    return tuple(
        LogitChange(
            int(i), one.label(int(i)), (float(a[i]), float(b[i])), (float(p[i]), float(q[i]))
        )
        for i in ids
        if a[i] != b[i]
    )
