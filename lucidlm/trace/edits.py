"""Edits: data that changes a run. They act where the engine taps a value, before anything reads it.

Zero("layers.3.attention.mixed[head=2]")            silence a head
Scale("layers.3.feedforward.output", 0.5)
Add("layers.5.residual_in[position=4]", direction)   steer
Mean("layers.3.attention.mixed[head=2]", of=trace)   its mean over another run's positions
Patch("layers.3.residual_out[position=4]", trace)    what another run had there
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lucidlm.errors import TraceError
from lucidlm.trace.address import Address, parse
from lucidlm.trace.arrange import arrange
from lucidlm.trace.operations import Array
from lucidlm.trace.site import Site

POSITIONS = ("position", "query")  # axes along which a run goes
Cut = tuple[tuple[slice, ...], tuple[slice, ...]]  # of a value, and of what an edit brings
ENDLESS = 1 << 40  # a sequence that grows has room for any position


class Recorded(Protocol):
    """What an edit takes of another trace."""

    def read(self, address: str) -> Any: ...


@dataclass(frozen=True)
class Edit(ABC):
    """A change at `address`, a site or a slice of one; axes left out are meant whole."""

    address: str

    @abstractmethod
    def bind(self, site: Site) -> BoundEdit:
        """This edit for one model's `site`. Raises TraceError where it does not fit."""


@dataclass(frozen=True)
class Zero(Edit):
    """Nothing there."""

    def bind(self, site: Site) -> BoundEdit:
        return BoundEdit("zero", self.address, site, np.zeros((1,) * len(site.axes)))


@dataclass(frozen=True)
class Scale(Edit):
    """`factor` times what was there."""

    factor: float

    def bind(self, site: Site) -> BoundEdit:
        array = np.full((1,) * len(site.axes), _finite(self.address, self.factor))
        return BoundEdit("scale", self.address, site, array)


@dataclass(frozen=True)
class Add(Edit):
    """`value` more: a number, or an array along the axes that the address does not fix."""

    value: ArrayLike

    def bind(self, site: Site) -> BoundEdit:
        array = _finite(self.address, self.value)
        at = parse(self.address, {site.address: site.axes}).at
        free = [axis for axis in site.axes if not isinstance(at.get(axis), int)]
        if array.ndim > len(free):
            sizes = [size for axis, size in zip(site.axes, site.sizes, strict=True) if axis in free]
            raise TraceError(
                "trace.edit_shape", address=self.address, found=list(array.shape), wanted=sizes
            )
        array = array.reshape((1,) * (len(free) - array.ndim) + array.shape)
        fixed = [n for n, axis in enumerate(site.axes) if axis not in free]
        return BoundEdit("add", self.address, site, np.expand_dims(array, fixed))


@dataclass(frozen=True)
class Mean(Edit):
    """The mean over the positions of trace `of`, at every position."""

    of: Recorded

    def bind(self, site: Site) -> BoundEdit:
        if not site.axes or site.axes[0] != "position":
            raise TraceError("trace.edit_no_mean", address=self.address, axes=", ".join(site.axes))
        array = np.asarray(self.of.read(site.address), np.float64).mean(axis=0, keepdims=True)
        return BoundEdit("mean", self.address, site, array)


@dataclass(frozen=True)
class Patch(Edit):
    """What another trace had at the same place; positions that it does not have stay as they
    are.
    """

    from_trace: Recorded

    def bind(self, site: Site) -> BoundEdit:
        return BoundEdit("patch", self.address, site, np.array(self.from_trace.read(site.address)))


def _finite(address: str, value: ArrayLike) -> Array:
    array = np.asarray(value, np.float64)
    if not np.isfinite(array).all():
        raise TraceError("trace.edit_number", address=address, value=value)
    return array


@dataclass(frozen=True, eq=False)
class BoundEdit:
    """An edit in place: what to do with the values of `site` as they pass.

    `array` has all the site's axes. An axis of size 1 serves for every index along it, but in a
    patch, which brings a cell for a cell. It begins where the address does ("add"), else where the
    site does.
    """

    kind: Literal["zero", "scale", "add", "mean", "patch"]
    address: str
    site: Site
    array: Array
    causal: bool = False  # its keys are a sequence's own, and nothing there sees what comes later

    def __post_init__(self) -> None:
        if not self.site.is_computed:
            raise TraceError("trace.edit_derived", address=self.address)
        sizes = [size if isinstance(size, int) else ENDLESS for size in self.site.sizes]
        at = parse(self.address, {self.site.address: self.site.axes}).at
        Address(self.site.address, at).index(self.site.axes, sizes)
        for low, high in self._ranges:
            if low < 0 or (high is not None and high < 0):
                raise TraceError("trace.edit_negative", address=self.address)
        for (low, high), size, found in zip(self._ranges, sizes, self.array.shape, strict=True):
            wanted = (
                size if self.kind != "add" else min(size, ENDLESS if high is None else high) - low
            )
            if found != wanted and found != 1 and size != ENDLESS:
                shape = [self.array.shape[n] for n in range(len(sizes))]
                raise TraceError(
                    "trace.edit_shape",
                    address=self.address,
                    found=shape,
                    wanted=["-" if n == ENDLESS else n for n in sizes],
                )

    def apply(
        self, value: Any, starts: Sequence[int] | None = None, counts: Sequence[int] = ()
    ) -> Any:
        """`value` as the engine tapped it, of rows that have read `counts` new positions from
        `starts` on, changed in a copy; without them, of rows that were read whole.
        """
        changed = value.clone() if hasattr(value, "clone") else value.copy()
        along = self._along
        whole = starts is None or self.site.sizes[0] == "sources"  # cross-attention's keys
        for row in range(len(changed)):
            view = arrange(self.site, changed[row])  # shares memory with `changed`
            size = view.shape[along] if along is not None else 1
            start, count = (0, size) if starts is None or whole else (starts[row], counts[row])
            for index, source in self._cuts(view.shape, start, count):
                view[index] = self._new(view[index], self.array[source])
        return changed

    def mask(self, shape: Sequence[int]) -> NDArray[np.bool_]:
        """Which cells of a whole site of `shape` it touches."""
        touched = np.zeros(tuple(shape), np.bool_)
        count = 1 if self._along is None else shape[self._along]
        for index, _ in self._cuts(shape, 0, count):
            touched[index] = True
        return touched

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "address": self.address}

    @property
    def _along(self) -> int | None:
        """The axis along which the run goes, if there is one."""
        return next((n for n, axis in enumerate(self.site.axes) if axis in POSITIONS), None)

    @property
    def _ranges(self) -> list[tuple[int, int | None]]:
        """From where to where, along each axis."""
        given = parse(self.address, {self.site.address: self.site.axes}).at
        ats = [given.get(axis, slice(None)) for axis in self.site.axes]
        return [
            (at.start or 0, at.stop) if isinstance(at, slice) else (at, at + 1 or None)
            for at in ats
        ]

    def _cuts(self, shape: Sequence[int], start: int, count: int) -> Iterator[Cut]:
        """Where to write into an array of `shape` whose positions begin at `start`, and what part
        of `array` belongs there. Where no query may see what comes after it, none is made to.
        """
        queries: Iterable[int | None] = range(start, start + count) if self.causal else (None,)
        for query in queries:
            index, source = [], []
            for number, (low, high) in enumerate(self._ranges):
                axis = self.site.axes[number]
                begin, end = (start, start + count) if axis in POSITIONS else (0, shape[number])
                size, offset = self.array.shape[number], low if self.kind == "add" else 0
                first, last = max(low, begin), end if high is None else min(high, end)
                if query is not None and axis == "query":
                    first, last = max(first, query), min(last, query + 1)
                elif query is not None and axis == "key":
                    last = min(last, query + 1)
                spread = size == 1 and self.kind != "patch"
                if not spread:
                    last = min(last, size + offset)
                if first >= last:
                    break
                index.append(slice(first - begin, last - begin))
                source.append(slice(None) if spread else slice(first - offset, last - offset))
            else:
                yield tuple(index), tuple(source)

    def _new(self, old: Any, given: Array) -> Any:
        """What stands instead of `old`."""
        array = old.new_tensor(given) if hasattr(old, "new_tensor") else given.astype(old.dtype)
        if self.kind == "add":
            return old + array
        return old * array if self.kind == "scale" else array
