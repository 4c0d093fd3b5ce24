"""GGUF files: metadata, raw blocks, and tensors dequantised by the `gguf` library's published
formulas.

A model split over several files (`NAME-00001-of-00003.gguf`) is opened by any one of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lucidlm.checkpoint.gguf_header import Header, Metadata, TensorInfo, read_header
from lucidlm.checkpoint.gguf_types import QUANTISED, READABLE
from lucidlm.checkpoint.tensors import (
    Bytes,
    Decoder,
    MappedFile,
    MappedTensors,
    decode,
    plain_decoder,
    result_dtype,
)
from lucidlm.errors import CheckpointError


def open_gguf(path: Path) -> GGUF:
    """The GGUF file at `path`, with its other parts where it is one of several; CheckpointError
    where it is no such thing.
    """
    header = read_header(MappedFile(path))
    count = header.metadata.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return GGUF(path, [header])
    match = re.fullmatch(r"(.*)-\d{5}-of-(\d{5})\.gguf", path.name)
    if match is None or int(match[2]) != count:
        raise CheckpointError("checkpoint.gguf_split_name", path=str(path), count=count)
    headers = []
    for number in range(count):
        part = path.with_name(f"{match[1]}-{number + 1:05d}-of-{count:05d}.gguf")
        header = read_header(MappedFile(part))
        if header.metadata.get("split.no") != number or header.metadata.get("split.count") != count:
            raise CheckpointError(
                "checkpoint.gguf_split_part", path=str(part), number=number + 1, count=count
            )
        headers.append(header)
    return GGUF(path, headers)


class GGUF(MappedTensors[TensorInfo]):
    """An open GGUF file, a `TensorSource`; `metadata` is the first part's."""

    def __init__(self, path: Path, headers: list[Header]) -> None:
        self.version = headers[0].version
        self.alignment = headers[0].alignment
        self.metadata: Metadata = headers[0].metadata
        tensors: dict[str, TensorInfo] = {}
        for header in headers:
            for name, info in header.tensors.items():
                if name in tensors:
                    raise CheckpointError("checkpoint.duplicate_tensor", path=str(path), name=name)
                tensors[name] = info
        super().__init__(path, tensors)

    def dtype(self, name: str) -> str:
        """The storage type: "F32", "Q4_1", ..."""
        return self._info(name).type.name

    def blocks(self, name: str) -> Bytes:
        """The stored bytes, (..., rows, bytes per row), as a read-only view of the file."""
        info = self._info(name)
        *rows, values = info.shape or (1,)
        row_bytes = values // info.type.block * info.type.size
        return info.file.data[info.start : info.stop].reshape(*rows, row_bytes)

    def stored(self, name: str) -> Bytes:
        """The bytes as they lie in the file, flat: a read-only view of it."""
        info = self._info(name)
        return info.file.data[info.start : info.stop]

    def read(self, name: str, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """The values as a contiguous array of the caller's own in the float type `dtype`; integers
        keep their type.
        """
        info = self._info(name)
        decoder = self._decoder(info)
        out = np.empty(info.shape, dtype=result_dtype(info.type.name, dtype))
        stored = info.file.data[info.start : info.stop]
        decode(stored, decoder, (info.type.block, info.type.size), out.reshape(-1))
        info.file.give_back(info.start, info.stop)
        return out

    def _decoder(self, info: TensorInfo) -> Decoder:
        if plain := plain_decoder(info.type.name):
            return plain[0]
        if info.type.name not in QUANTISED:
            raise CheckpointError(
                "checkpoint.unsupported_type",
                path=str(info.file.path),
                name=info.name,
                type=info.type.name,
                supported=", ".join(READABLE),
            )
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        kind = GGMLQuantizationType[info.type.name]
        return lambda part: dequantize(part, kind)
