"""The words of pulled word vectors: a reader for one kind of Parquet file, one column of strings,
none of them missing.

Only what such files hold is read (https://parquet.apache.org/docs/file-format): the footer and page
headers in Thrift's compact protocol, plain or Snappy pages of version 1 or 2, plain or
dictionary-encoded values. Every length is checked against the bytes that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lucidlm.errors import PullError
from lucidlm.files import write_atomic

_MAGIC: Final = b"PAR1"
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8
_BYTE_ARRAY = 6
_PAGE_LIMIT = 1 << 28  # bytes of one unpacked page
_DEPTH_LIMIT = 16


def convert_words(path: Path) -> None:
    """Rewrites a one-column Parquet file as UTF-8 text, one word per line, in place."""
    words = read_words(path)
    if any("\n" in word for word in words):
        raise _damaged(path)
    write_atomic(path, "".join(f"{word}\n" for word in words).encode())


def read_words(path: Path) -> list[str]:
    """The strings of the file's only column, in order; PullError where it is not such a file."""
    data = path.read_bytes()
    try:
        return [value.decode() for value in _column(data)]
    except (_FormatError, UnicodeDecodeError):
        raise _damaged(path) from None


class _FormatError(Exception):
    """What the reader does not understand; its text is for whoever debugs this file."""


def _damaged(path: Path) -> PullError:
    return PullError("pull.bad_parquet", path=str(path))


def _column(data: bytes) -> list[bytes]:
    if len(data) < 12 or data[:4] != _MAGIC or data[-4:] != _MAGIC:
        raise _FormatError("no Parquet magic number")
    length = int.from_bytes(data[-8:-4], "little")
    if length > len(data) - 12:
        raise _FormatError("the footer is longer than the file")
    footer = _Bytes(data, len(data) - 8 - length, len(data) - 8).struct()
    values: list[bytes] = []
    for group in _typed(footer, 4, list):
        columns = _typed(group, 1, list)
        if len(columns) != 1:
            raise _FormatError("more than one column")
        values += _chunk(data, _typed(columns[0], 3, dict))
    if len(values) != _typed(footer, 3, int):
        raise _FormatError("the number of values does not match")
    return values


def _chunk(data: bytes, meta: dict[int, Any]) -> list[bytes]:
    """All pages of one column chunk; `meta` is Parquet's ColumnMetaData."""
    if _typed(meta, 1, int) != _BYTE_ARRAY:
        raise _FormatError("the column does not hold strings")
    decompress = {0: _stored, 1: _snappy}.get(_typed(meta, 4, int))
    if decompress is None:
        raise _FormatError("a compression other than Snappy")
    count = _typed(meta, 5, int)
    start = min(_typed(meta, 9, int), meta.get(11) or _typed(meta, 9, int))
    source = _Bytes(data, start, start + _typed(meta, 7, int))
    dictionary: list[bytes] = []
    values: list[bytes] = []
    while len(values) < count:
        page = _page(source, decompress)
        if page.kind == _DICTIONARY_PAGE:
            dictionary = _plain(page.values, page.count)
        elif page.encoding == _PLAIN:
            values += _plain(page.values, page.count)
        elif page.encoding in (_PLAIN_DICTIONARY, _RLE_DICTIONARY):
            ids = _hybrid(page.values, page.values.byte(), page.count)
            if ids and max(ids) >= len(dictionary):
                raise _FormatError("a dictionary index beyond the dictionary")
            values += [dictionary[i] for i in ids]
        else:
            raise _FormatError(f"encoding {page.encoding}")
    return values


@dataclass(frozen=True)
class _Page:
    kind: int
    count: int
    encoding: int
    values: _Bytes


def _page(source: _Bytes, decompress: Callable[[bytes, int], bytes]) -> _Page:
    """The next page, unpacked, behind its definition levels."""
    header = source.struct()
    kind, size = _typed(header, 1, int), _typed(header, 2, int)
    body = source.take(_typed(header, 3, int))
    if not 0 <= size <= _PAGE_LIMIT:
        raise _FormatError(f"a page of {size} bytes")
    if kind == _DATA_PAGE_V2:
        about = _typed(header, 8, dict)
        levels = _typed(about, 5, int) + _typed(about, 6, int)
        if _typed(about, 2, int):
            raise _FormatError("a value is missing")
        if not 0 <= levels <= min(size, len(body)):
            raise _FormatError("levels longer than their page")
        unpacked = decompress(body[levels:], size - levels) if about.get(7, True) else body[levels:]
        return _Page(kind, _count(about), _typed(about, 4, int), _Bytes(unpacked))
    if kind not in (_DATA_PAGE, _DICTIONARY_PAGE):
        raise _FormatError(f"a page of kind {kind}")
    about = _typed(header, 5 if kind == _DATA_PAGE else 7, dict)
    values = _Bytes(decompress(body, size))
    if kind == _DATA_PAGE:
        levels_source = _Bytes(values.take(int.from_bytes(values.take(4), "little")))
        if not all(_hybrid(levels_source, 1, _count(about))):
            raise _FormatError("a value is missing")
    return _Page(kind, _count(about), _typed(about, 2, int), values)


def _count(about: dict[int, Any]) -> int:
    count: int = _typed(about, 1, int)
    if not 0 <= count <= _PAGE_LIMIT // 4:
        raise _FormatError(f"a page of {count} values")
    return count


def _plain(source: _Bytes, count: int) -> list[bytes]:
    """PLAIN byte arrays: four bytes of length, then that many bytes."""
    return [source.take(int.from_bytes(source.take(4), "little")) for _ in range(count)]


def _hybrid(source: _Bytes, width: int, count: int) -> list[int]:
    """`count` integers of `width` bits in Parquet's mixture of run-length and bit-packed runs."""
    if width > 32:
        raise _FormatError(f"indices of {width} bits")
    values: list[int] = []
    mask = (1 << width) - 1
    while len(values) < count:
        header = source.varint()
        if header & 1:
            for _ in range(header >> 1):  # groups of eight, `width` bytes each
                bits = int.from_bytes(source.take(width), "little")
                values += [bits >> (i * width) & mask for i in range(8)]
                if len(values) >= count:
                    break
        else:
            value = int.from_bytes(source.take(-(-width // 8)), "little")
            values += [value] * min(header >> 1, count - len(values))
            if header >> 1 == 0:
                raise _FormatError("an empty run")
    return values[:count]


def _stored(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise _FormatError("a page of the wrong size")
    return data


def _snappy(data: bytes, size: int) -> bytes:
    """Snappy's raw format (https://github.com/google/snappy/blob/main/format_description.txt)."""
    source = _Bytes(data)
    if source.varint() != size:
        raise _FormatError("a page of the wrong size")
    out = bytearray()
    while source.at < source.end:
        tag = source.byte()
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:
            if length > 60:
                length = int.from_bytes(source.take(length - 60), "little") + 1
            out += source.take(length)
        else:
            if kind == 1:
                length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | source.byte()
            else:
                offset = int.from_bytes(source.take(2 if kind == 2 else 4), "little")
            _repeat(out, offset, length)
        if len(out) > size:
            raise _FormatError("a page of the wrong size")
    return _stored(bytes(out), size)


def _repeat(out: bytearray, offset: int, length: int) -> None:
    """Appends `length` bytes that begin `offset` before the end; they may overlap what is being
    written.
    """
    start = len(out) - offset
    if start < 0 or offset == 0:
        raise _FormatError("a copy from before the page")
    piece = bytes(out[start : start + length])
    out += (piece * -(-length // len(piece)))[:length]


class _Bytes:
    """A cursor over part of the file that cannot leave it, with the pieces of Thrift's compact
    protocol.
    """

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self.data, self.at, self.end = data, start, len(data) if end is None else end
        if not 0 <= start <= self.end <= len(data):
            raise _FormatError("a length beyond the end of the file")

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.end - self.at:
            raise _FormatError("a length beyond the end of the data")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise _FormatError("a number of more than ten bytes")

    def zigzag(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """A Thrift struct as {field id: value}."""
        fields: dict[int, Any] = {}
        number = 0
        while (head := self.byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _DEPTH_LIMIT:
            raise _FormatError("structures nested too deeply")
        if kind in (1, 2, 3):
            return self.byte()
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            return self.take(8)
        if kind == 8:
            return self.take(self.varint())
        if kind in (9, 10):
            head = self.byte()
            count = self.varint() if head >> 4 == 15 else head >> 4
            if count > self.end - self.at:  # an element takes a byte at least
                raise _FormatError("a list longer than the data")
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth)
        raise _FormatError(f"a field of kind {kind}")


def _typed(fields: dict[int, Any], number: int, kind: type[Any]) -> Any:
    value = fields.get(number)
    if not isinstance(value, kind):
        raise _FormatError(f"field {number} is missing")
    return value
