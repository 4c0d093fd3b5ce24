"""GGUF's header, read from a memory map: every count, length and offset is checked against what is
left of the file.

Long arrays (a vocabulary's tokens, scores and merges) are only walked over here and decoded when
asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from lucidlm.checkpoint.gguf_types import ARRAY, NUMBERS, STRING, TENSOR_TYPES, TensorType
from lucidlm.checkpoint.tensors import MappedFile, count_elements
from lucidlm.errors import CheckpointError

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_SMALLEST_ENTRY = 8 + 4 + 1  # bytes of a metadata entry: the key's length, the type, a value
_SMALLEST_TENSOR = (
    8 + 4 + 4 + 8
)  # bytes of a tensor's description: the name's length, dimensions, type, offset
_MAX_DIMS = 4  # ggml's
_SHOWN = 80  # characters of a name that an error repeats


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: rows-first shape, type, and where its bytes lie in `file`."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    start: int
    stop: int
    file: MappedFile


@dataclass(frozen=True)
class Header:
    """All that a GGUF file says about itself."""

    version: int
    alignment: int
    metadata: Metadata
    tensors: dict[str, TensorInfo]


class Metadata(Mapping[str, object]):
    """The file's key-value pairs as int, float, bool, str, or a list of one of these, decoded at
    first use.
    """

    def __init__(self, cursor: _Cursor, places: dict[str, tuple[int, int]]) -> None:
        self._cursor = cursor
        self._places = places  # key: (value type, first byte)
        self._values: dict[str, object] = {}

    def __getitem__(self, key: str) -> object:
        if key not in self._values:
            kind, at = self._places[key]
            self._values[key] = self._cursor.value(key, kind, at)
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def read_header(file: MappedFile) -> Header:
    """The header of a GGUF file of version 2 or 3; CheckpointError where it is damaged, hostile or
    of another kind.
    """
    cursor = _Cursor(file)
    version = _version(cursor)
    tensor_count = cursor.u64()
    entry_count = cursor.u64()
    cursor.expect(tensor_count * _SMALLEST_TENSOR + entry_count * _SMALLEST_ENTRY)
    metadata = Metadata(cursor, _entries(cursor, entry_count))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise CheckpointError("checkpoint.gguf_alignment", path=str(file.path), alignment=alignment)
    raw = [_description(cursor) for _ in range(tensor_count)]
    data_start = -(-cursor.at // alignment) * alignment
    tensors = _place(file, raw, data_start, alignment)
    return Header(version, alignment, metadata, tensors)


def _version(cursor: _Cursor) -> int:
    path = str(cursor.file.path)
    if bytes(cursor.file.data[:4]) != b"GGUF":
        raise CheckpointError("checkpoint.not_gguf", path=path)
    cursor.at = 4
    version = cursor.u32()
    if version & 0xFFFF == 0 and version:
        raise CheckpointError("checkpoint.gguf_big_endian", path=path)
    if version not in (2, 3):
        raise CheckpointError("checkpoint.gguf_version", path=path, version=version)
    return version


def _entries(cursor: _Cursor, count: int) -> dict[str, tuple[int, int]]:
    places: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        key = cursor.string()
        kind = cursor.u32()
        if key in places:
            raise CheckpointError(
                "checkpoint.duplicate_key", path=str(cursor.file.path), name=key[:_SHOWN]
            )
        places[key] = (kind, cursor.at)
        cursor.skip(key, kind)
    return places


def _description(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """A tensor's name, shape (rows first), type and offset as they stand in the file."""
    name = cursor.string()
    dims = cursor.u32()
    if dims > _MAX_DIMS:
        raise CheckpointError(
            "checkpoint.gguf_dims", path=str(cursor.file.path), name=name[:_SHOWN], dims=dims
        )
    shape = tuple(cursor.u64() for _ in range(dims))[::-1]
    return name, shape, cursor.u32(), cursor.u64()


def _place(
    file: MappedFile,
    raw: list[tuple[str, tuple[int, ...], int, int]],
    data_start: int,
    alignment: int,
) -> dict[str, TensorInfo]:
    """Where each tensor lies, once it is known that all lie inside the file and apart from each
    other.
    """
    path = str(file.path)
    tensors: dict[str, TensorInfo] = {}
    for name, shape, code, offset in raw:
        shown = name[:_SHOWN]
        if name in tensors:
            raise CheckpointError("checkpoint.duplicate_tensor", path=path, name=shown)
        if (kind := TENSOR_TYPES.get(code)) is None:
            raise CheckpointError("checkpoint.gguf_type", path=path, name=shown, type=code)
        if (elements := count_elements(shape)) is None:
            raise CheckpointError("checkpoint.shape", path=path, name=shown, shape=list(shape))
        row = shape[-1] if shape else 1
        if row % kind.block:
            raise CheckpointError(
                "checkpoint.gguf_row",
                path=path,
                name=shown,
                row=row,
                type=kind.name,
                block=kind.block,
            )
        start = data_start + offset
        stop = start + elements // kind.block * kind.size
        if offset % alignment or stop > len(file.data):
            raise CheckpointError("checkpoint.outside", path=path, name=shown)
        tensors[name] = TensorInfo(name, shape, kind, start, stop, file)
    in_order = sorted(tensors.values(), key=lambda info: (info.start, info.stop))
    for first, second in pairwise(in_order):
        if second.start < first.stop:
            raise CheckpointError(
                "checkpoint.overlap",
                path=path,
                first=first.name[:_SHOWN],
                second=second.name[:_SHOWN],
            )
    return tensors


class _Cursor:
    """Reads forward through the header and never beyond the file."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.view = file.view
        self.end = len(file.data)
        self.at = 0

    def expect(self, size: int) -> None:
        """`size` bytes must follow."""
        if size > self.end - self.at:
            raise CheckpointError("checkpoint.cut_short", path=str(self.file.path), at=self.at)

    def u32(self) -> int:
        self.expect(4)
        self.at += 4
        return int(_U32.unpack_from(self.view, self.at - 4)[0])

    def u64(self) -> int:
        self.expect(8)
        self.at += 8
        return int(_U64.unpack_from(self.view, self.at - 8)[0])

    def string(self) -> str:
        length = self.u64()
        self.expect(length)
        self.at += length
        return self._text(self.view[self.at - length : self.at])

    def skip(self, key: str, kind: int) -> None:
        """Step over a value."""
        if kind == STRING:
            length = self.u64()
            self.expect(length)
            self.at += length
        elif kind == ARRAY:
            kind, count = self.u32(), self.u64()
            if kind == STRING:
                self._skip_strings(count)
            else:
                self._skip_number(key, kind, count)
        else:
            self._skip_number(key, kind, 1)

    def _skip_number(self, key: str, kind: int, count: int) -> None:
        if kind not in NUMBERS:  # an array of arrays among them: no program writes one
            raise CheckpointError(
                "checkpoint.gguf_value_type", path=str(self.file.path), name=key[:_SHOWN], type=kind
            )
        size = count * NUMBERS[kind].itemsize
        self.expect(size)
        self.at += size

    def _skip_strings(self, count: int) -> None:
        self.expect(count * 8)
        unpack, view, last = _U64.unpack_from, self.view, self.end - 8
        at = self.at
        for _ in range(count):
            if at > last:
                break
            at += 8 + unpack(view, at)[0]
        else:
            self.expect(at - self.at)
            self.at = at
            return
        self.expect(self.end)  # a string runs over the end

    def value(self, key: str, kind: int, at: int) -> object:
        """The value of type `kind` that begins at byte `at`, which `skip` has been over."""
        self.at = at
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            kind, count = self.u32(), self.u64()
            return self._strings(count) if kind == STRING else self._numbers(kind, count)
        return self._numbers(kind, 1)[0]

    def _strings(self, count: int) -> list[str]:
        unpack, view, at = _U64.unpack_from, self.view, self.at
        texts = []
        try:
            for _ in range(count):
                start = at + 8
                at = start + unpack(view, at)[0]
                texts.append(str(view[start:at], "utf-8"))
        except UnicodeDecodeError:
            raise CheckpointError("checkpoint.not_utf8", path=str(self.file.path), at=at) from None
        return texts

    def _numbers(self, kind: int, count: int) -> list[Any]:
        dtype = NUMBERS[kind]
        stored = self.file.data[self.at : self.at + count * dtype.itemsize]
        values: list[Any] = (
            (stored != 0).tolist() if dtype.kind == "b" else stored.view(dtype).tolist()
        )
        return values

    def _text(self, stored: memoryview) -> str:
        try:
            return str(stored, "utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(
                "checkpoint.not_utf8", path=str(self.file.path), at=self.at
            ) from None
