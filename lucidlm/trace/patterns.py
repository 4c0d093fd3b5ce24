"""Sites by pattern."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from lucidlm.config import Config
from lucidlm.engine import EXACT, Rounding
from lucidlm.trace.aliases import no_such, resolve
from lucidlm.trace.site import Site
from lucidlm.trace.sites import catalogue


def matching(
    config: Config | None, pattern: str | None = None, rounding: Mapping[str, Rounding] = EXACT
) -> list[Site]:
    """The sites of a model whose addresses `pattern` fits (`*.pattern`), or the one of which it is
    an alias; without a pattern all of them. Raises UnknownName with the nearest ones.
    """
    sites = catalogue(config, rounding)
    if pattern is None:
        return list(sites.values())
    found = [site for address, site in sites.items() if fnmatchcase(address, pattern)]
    if found:
        return found
    if any(sign in pattern for sign in "*?["):
        raise no_such(pattern, config, sites)
    return [sites[resolve(pattern, config, sites)]]
