"""Where the arrays of a run are kept: in memory, or in a file that has no name and goes with the
trace.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lucidlm.errors import TraceError
from lucidlm.trace.arrange import to_array
from lucidlm.trace.operations import Array

Shape = tuple[int, ...]
AT_ONCE = 1024  # arrays in one system call: IOV_MAX of Linux and macOS


class Store(Protocol):
    """Takes the arrays of one pass at a time."""

    def put(self, values: Mapping[str, Any], keys: int) -> Mapping[str, Any]:
        """`values` by address, to be had again from what is returned. `keys` is how many positions
        could be looked at, the size that grows from pass to pass.
        """
        ...


class Memory:
    """Keeps the engine's own arrays: nothing is copied."""

    def put(self, values: Mapping[str, Any], keys: int) -> Mapping[str, Any]:
        return values


class Spill:
    """Keeps them in a file in `folder`: memory holds a few numbers a pass, whatever is kept.

    Passes of one kind lay the same arrays down in the same order, so one `_Layout` finds them all.
    """

    def __init__(self, grows: Callable[[str], bool], folder: Path | None = None) -> None:
        self.grows = grows  # whether the last axis of a site counts keys
        try:
            self.file = tempfile.TemporaryFile(buffering=0, dir=folder, prefix="lucidlm-")
        except OSError as error:
            raise TraceError(
                "trace.cannot_spill", folder=folder or tempfile.gettempdir(), reason=error.strerror
            ) from None
        weakref.finalize(self, self.file.close)
        self.end = 0
        self.layouts: dict[tuple[tuple[str, Shape, str], ...], _Layout] = {}

    def put(self, values: Mapping[str, Any], keys: int) -> Mapping[str, Any]:
        arrays = {address: to_array(value) for address, value in values.items()}
        kind = tuple(
            (address, array.shape[:-1] if self.grows(address) else array.shape, array.dtype.str)
            for address, array in arrays.items()
        )
        if kind not in self.layouts:
            self.layouts[kind] = _Layout.of(kind, self.grows)
        start = self.end
        try:
            self.end += write_all(self.file.fileno(), arrays.values())
        except OSError as error:
            raise TraceError("trace.disk", reason=error.strerror) from None
        return _Spilled(self, self.layouts[kind], start, keys)

    def read(self, offset: int, shape: Shape, dtype: np.dtype[np.floating]) -> Array:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        data = os.pread(self.file.fileno(), size, offset)
        return np.frombuffer(data, dtype).reshape(shape)


def write_all(file: int, arrays: Iterable[Array]) -> int:
    """Write arrays one behind the other, as many in one call as the system takes; returns how many
    bytes that were.
    """
    left = [np.ascontiguousarray(array).data.cast("B") for array in arrays if array.size]
    written = 0
    while left:
        count = os.writev(file, left[:AT_ONCE])
        written += count
        done = 0
        while done < len(left) and count >= left[done].nbytes:
            count -= left[done].nbytes
            done += 1
        left = left[done:]
        if count:
            left[0] = left[0][count:]
    return written


@dataclass(frozen=True)
class _Layout:
    """Of each array: shape without the axis that grows, and where it begins, as a + b * keys."""

    places: Mapping[str, tuple[Shape, np.dtype[np.floating], int, int, bool]]

    @classmethod
    def of(cls, kind: tuple[tuple[str, Shape, str], ...], grows: Callable[[str], bool]) -> _Layout:
        fixed = growing = 0
        places = {}
        for address, shape, code in kind:
            dtype = np.dtype(code)
            places[address] = (shape, dtype, fixed, growing, grows(address))
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            if grows(address):
                growing += size
            else:
                fixed += size
        return cls(places)


class _Spilled(Mapping[str, Array]):
    """One pass's arrays, read from the file when asked for."""

    __slots__ = ("keys_", "layout", "spill", "start")

    def __init__(self, spill: Spill, layout: _Layout, start: int, keys: int) -> None:
        self.spill, self.layout, self.start, self.keys_ = spill, layout, start, keys

    def __getitem__(self, address: str) -> Array:
        shape, dtype, fixed, growing, grows = self.layout.places[address]
        offset = self.start + fixed + growing * self.keys_
        return self.spill.read(offset, (*shape, self.keys_) if grows else shape, dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.places)

    def __len__(self) -> int:
        return len(self.layout.places)
