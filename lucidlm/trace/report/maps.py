"""Attention patterns as pictures: every weight in one of 256 steps, a layer's packed by deflate."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from lucidlm.errors import TraceError, UnknownName
from lucidlm.trace.run import Run
from lucidlm.trace.site import Site

BUDGET = 4_000_000  # bytes of all of them on the page
STEPS = 255


def heat_maps(run: Run, patterns: Sequence[str] | None, budget: int) -> dict[str, Any]:
    """The attention patterns that `patterns` name; without any, of as many layers as fit into
    `budget`, evenly spread, the first and the last among them. `every` says how many there are.
    """
    sites = [site for site in run.catalogue.values() if site.key == "attention.pattern"]
    chosen = sites if patterns is None else _named(sites, patterns)
    maps = [drawn for site in chosen if (drawn := _map(run, site)) is not None]
    if patterns is None:
        maps = _fitting(maps, budget)
    return {"every": len(sites), "steps": STEPS + 1, "shown": maps}


def _named(sites: Sequence[Site], patterns: Sequence[str]) -> list[Site]:
    known = [site.address for site in sites]
    for pattern in patterns:
        if not any(fnmatchcase(address, pattern) for address in known):
            raise UnknownName("trace.no_such_site", pattern, known)
    return [site for site in sites if any(fnmatchcase(site.address, p) for p in patterns)]


def _fitting(maps: list[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """As many of `maps` as fit, evenly spread."""
    for count in range(len(maps), 0, -1):
        some = [maps[at] for at in spread(len(maps), count)]
        if sum(len(one["data"]) for one in some) <= budget:
            return some
    return []


def spread(count: int, shown: int) -> tuple[int, ...]:
    """`shown` of `count` numbers, evenly, with the first and the last; of one, the last."""
    if shown == 1:
        return (count - 1,)
    return tuple(sorted({round(i * (count - 1) / (shown - 1)) for i in range(shown)}))


def _map(run: Run, site: Site) -> dict[str, Any] | None:
    try:
        pattern = np.nan_to_num(run.read(site.address))  # (H, T, S)
    except TraceError:  # opened without its model
        return None
    steps = np.rint(np.clip(pattern, 0.0, 1.0) * STEPS).astype(np.uint8)
    stack, crosses = site.address.partition("layers.")[0], site.sizes[1] != site.sizes[2]
    operation = run.catalogue[site.address.replace("pattern", "scores")].operation
    return {
        "address": site.address,
        "shape": list(pattern.shape),
        "queries": "sources" if stack == "encoder." else "tokens",
        "keys": "sources" if stack == "encoder." or crosses else "tokens",
        "mask": getattr(operation, "mask", "full"),
        "data": b64encode(zlib.compress(steps.tobytes())).decode("ascii"),
    }
