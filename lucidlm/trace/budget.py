"""How many bytes a trace will keep, before it is begun."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from lucidlm import hardware
from lucidlm.errors import TraceError
from lucidlm.trace.site import Site

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def estimate(
    sites: Iterable[Site], prompts: Sequence[int], sources: Sequence[int], new: int, itemsize: int
) -> int:
    """Bytes of `sites` for rows with `prompts` and `sources` positions that generate `new` more.

    An upper bound: a run may end before, and the last token is not read.
    """
    return itemsize * sum(
        _cells(site, prompt, source, new)
        for site in sites
        for prompt, source in zip(prompts, sources, strict=True)
    )


def _cells(site: Site, prompt: int, source: int, new: int) -> int:
    if site.part == "head":  # it sees one position a step
        return math.prod(site.shape(1 + new, source))
    if site.grows:
        heads = site.shape(1)[0]
        return heads * (prompt * prompt + sum(range(prompt + 1, prompt + new + 1)))
    return math.prod(site.shape(prompt + new, source))


def check(needed: int, budget: int | str | None, spill: bool, folder: Path | None) -> None:
    """Refuse a run that would keep more than `budget`: by default half of the memory that is free,
    or, where it goes to disk, nine tenths of the disk.
    """
    place = folder or Path(tempfile.gettempdir())
    if budget is not None:
        allowed = parse_size(budget)
    elif spill:
        allowed = shutil.disk_usage(place).free * 9 // 10
    else:
        available = hardware.here().available
        allowed = needed if available is None else available // 2
    if needed > allowed:
        key = "trace.over_disk" if spill and budget is None else "trace.over_budget"
        raise TraceError(
            key, needed=hardware.readable(needed), budget=hardware.readable(allowed), folder=place
        )


def parse_size(size: int | str) -> int:
    """Bytes: a whole number, or "2GB" (powers of 1000). Raises TraceError for anything else."""
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,3})?)\s*([KMGT]?B?)\s*", str(size).upper())
    if found is None or isinstance(size, bool):
        raise TraceError("trace.bad_size", value=size)
    number, unit = found.groups()
    return int(float(number) * UNITS[unit if unit.endswith("B") or not unit else f"{unit}B"])
