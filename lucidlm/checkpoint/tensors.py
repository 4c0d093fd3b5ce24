"""What a weights file looks like to its user, and the memory map that both formats stand on.

Values are decoded in pieces that stay in the processor's cache, and the file's pages are given back
once read: loading a tensor needs little more memory than its result.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lucidlm.errors import CheckpointError

Bytes = NDArray[np.uint8]
Decoder = Callable[[Bytes], NDArray[Any]]

# Values decoded at a time: temporaries stay in cache, and below 128 KB, where malloc would map
# fresh pages for each of them (measured: half of the loading time).
_PIECE = 1 << 14
_MAX_DIMS = 64  # NumPy's limit
_MAX_ELEMENTS = 1 << 56

PLAIN: Final[dict[str, np.dtype[Any]]] = {  # stored as NumPy has them, little endian
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("<i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("<u1"),
    "BOOL": np.dtype("?"),
}


class TensorSource(Protocol):
    """Named tensors in a file or folder."""

    path: Path  # what was opened

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor, in the file's order."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows first, as NumPy has it."""
        ...

    def dtype(self, name: str) -> str:
        """How the values are stored: "F32", "BF16", "Q4_1", ..."""
        ...

    def read(self, name: str, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """A contiguous array of the caller's own, in the float type `dtype`; integers keep their
        type.
        """
        ...

    def stored(self, name: str) -> Bytes:
        """The bytes as they lie in the file, flat: a read-only view of it."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Shaped(Protocol):
    """What a format's header says of one tensor, as far as every format says it."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Info = TypeVar("Info", bound=Shaped)


class MappedTensors(TensorSource, Generic[Info]):
    """Tensors by name in mapped files: what GGUF and safetensors have in common."""

    def __init__(self, path: Path, tensors: dict[str, Info]) -> None:
        self.path = path
        self._tensors = tensors

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor, in the file's order."""
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows first, as NumPy has it."""
        return self._info(name).shape

    def close(self) -> None:
        """Let go of the files; views handed out before stay good and keep theirs mapped."""
        self._tensors = {}

    def _info(self, name: str) -> Info:
        try:
            return self._tensors[name]
        except KeyError:
            raise CheckpointError("checkpoint.no_tensor", path=str(self.path), name=name) from None


class MappedFile:
    """A file's bytes, read-only, brought in by the operating system where they are touched."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():  # a pipe or a device would never end
            raise CheckpointError("checkpoint.no_file", path=str(path))
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CheckpointError(
                "checkpoint.unreadable", path=str(path), reason=error.strerror
            ) from None
        except ValueError:
            raise CheckpointError("checkpoint.empty", path=str(path)) from None
        self.view = memoryview(self._map)
        self.data: Bytes = np.frombuffer(self._map, dtype=np.uint8)

    def give_back(self, start: int, stop: int) -> None:
        """Drop the pages of these bytes from this process; touching them again brings them back."""
        if hasattr(mmap, "MADV_DONTNEED"):
            first = start // mmap.PAGESIZE * mmap.PAGESIZE
            if stop > first:
                self._map.madvise(mmap.MADV_DONTNEED, first, stop - first)


def count_elements(shape: Sequence[int]) -> int | None:
    """Elements of an array of this shape; None when no array can have it."""
    if len(shape) > _MAX_DIMS or any(size < 0 for size in shape):
        return None
    if math.prod(size or 1 for size in shape) > _MAX_ELEMENTS:
        return None
    return math.prod(shape)


def decode(stored: Bytes, decoder: Decoder, block: tuple[int, int], out: NDArray[Any]) -> None:
    """Fill the flat array `out` from `stored`, where `decoder` turns a run of blocks into flat
    values.

    `block` is (values, bytes) of the smallest unit that stands alone.
    """
    values, size = block
    step = max(1, _PIECE // values)
    with np.errstate(all="ignore"):  # a file may well hold infinities
        for start in range(0, len(out) // values, step):
            part = stored[start * size : (start + step) * size]
            out[start * values : (start + step) * values] = decoder(part)


def plain_decoder(dtype: str) -> tuple[Decoder, tuple[int, int]] | None:
    """How to decode a type that needs no formula, and its (values, bytes); None for other types."""
    if dtype == "BF16":
        return _bf16, (1, 2)
    if dtype == "BOOL":
        return (lambda part: part != 0), (1, 1)
    if (stored := PLAIN.get(dtype)) is None:
        return None
    return (lambda part: part.view(stored)), (1, stored.itemsize)


def result_dtype(dtype: str, asked: DTypeLike) -> np.dtype[Any]:
    """The NumPy type that a tensor stored as `dtype` is read as."""
    stored = PLAIN.get(dtype)
    return np.dtype(asked) if stored is None or stored.kind == "f" else stored


def _bf16(part: Bytes) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32."""
    return (part.view("<u2").astype(np.uint32) << 16).view(np.float32)


def to_bf16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """The nearest bfloat16 of each float32, ties to even, as its 16 bits; NaN stays NaN."""
    bits = np.asarray(values, dtype=np.float32, order="C").view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + (bits >> 16 & 1))) >> 16
    quiet_nan = bits >> 16 | 0x40
    return np.where(np.isnan(values), quiet_nan, rounded).astype(np.uint16)
