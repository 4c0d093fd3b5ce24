"""Addresses: a site, and a cell or slice of it: `layers.3.attention.pattern[head=2, query=5]`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lucidlm.errors import TraceError

At = int | slice
_WHOLE = re.compile(r"([\w.]+)(?:\[(.*)\])?", re.DOTALL)
_NUMBER = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True)
class Address:
    """`at` holds what the brackets say, by axis; axes that it leaves out are taken whole."""

    site: str
    at: Mapping[str, At] = field(default_factory=dict)

    def __str__(self) -> str:
        inside = ", ".join(f"{axis}={_spelled(at)}" for axis, at in self.at.items())
        return f"{self.site}[{inside}]" if inside else self.site

    def index(self, axes: Sequence[str], shape: Sequence[int], start: int = 0) -> tuple[At, ...]:
        """`at` along `axes` of an array of `shape`, negative numbers counted from the end.

        `start` is the position at index 0 of the first axis. Raises TraceError for an axis that the
        site does not have, or a place outside it.
        """
        if unknown := [axis for axis in self.at if axis not in axes]:
            raise TraceError(
                "trace.no_such_axis",
                address=str(self),
                axis=unknown[0],
                axes=", ".join(axes) or "-",
            )
        found: list[At] = []
        for number, (axis, size) in enumerate(zip(axes, shape, strict=True)):
            low = start if number == 0 else 0
            at = self.at.get(axis, slice(None))
            if isinstance(at, slice):
                ends = (end if end is None or end < 0 else end - low for end in (at.start, at.stop))
                found.append(slice(*ends))
                continue
            place = at + size if at < 0 else at - low
            if not 0 <= place < size:
                raise TraceError(
                    "trace.outside", address=str(self), axis=axis, low=low, high=low + size - 1
                )
            found.append(place)
        return tuple(found)


EXAMPLE = Address("layers.3.attention.pattern", {"head": 2, "query": 5, "key": 1})


def parse(text: str, axes: Mapping[str, Sequence[str]] | None = None) -> Address:
    """`site[axis=1, other=2:5]`, or numbers alone in the order of the axes, which `axes` must then
    know by site. Raises TraceError for anything else.
    """
    match = _WHOLE.fullmatch(text.strip())
    if match is None:
        raise _bad(text, axes)
    site, inside = match.groups()
    at: dict[str, At] = {}
    parts = [part.strip() for part in inside.split(",")] if inside and inside.strip() else []
    for number, part in enumerate(parts):
        axis, equals, place = part.rpartition("=")
        if not equals:
            known = (axes or {}).get(site, ())
            if number >= len(known):
                raise _bad(text, axes)
            axis = known[number]
        if axis.strip() in at:
            raise _bad(text, axes)
        found = _place(place.strip())
        if found is None:
            raise _bad(text, axes)
        at[axis.strip()] = found
    return Address(site, at)


def _bad(text: str, axes: Mapping[str, Sequence[str]] | None) -> TraceError:
    """`text` is no address; what one of its site looks like."""
    site = text.partition("[")[0].strip()
    known = (axes or {}).get(site)
    example = Address(site, dict.fromkeys(known, 0)) if known else EXAMPLE
    return TraceError("trace.bad_address", address=text, example=example)


def _place(text: str) -> At | None:
    ends = [end.strip() for end in text.split(":")]
    blank = len(ends) == 2  # an end of a slice may be left out
    if len(ends) > 2 or not all(_NUMBER.fullmatch(end) or (blank and not end) for end in ends):
        return None
    return int(text) if len(ends) == 1 else slice(*(int(end) if end else None for end in ends))


def _spelled(at: At) -> str:
    if isinstance(at, slice):
        return ":".join("" if end is None else str(end) for end in (at.start, at.stop))
    return str(at)
