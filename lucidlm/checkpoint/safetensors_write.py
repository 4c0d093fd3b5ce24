"""Writes safetensors in Hugging Face's layout: `model.safetensors`, or numbered shards and their
index.

Tensors are streamed: one is in memory at a time. Everything is written under temporary names and
renamed at the end, so that an error leaves the folder as it was.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from lucidlm.checkpoint.safetensors import INDEX, SINGLE
from lucidlm.checkpoint.tensors import to_bf16
from lucidlm.errors import CheckpointError

FloatType = Literal["F64", "F32", "F16", "BF16"]

_NUMPY: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_COPY_BYTES = 16 << 20


def write_safetensors(
    folder: Path,
    tensors: Iterable[tuple[str, NDArray[Any]]],
    *,
    dtype: FloatType = "F32",
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Write float `tensors` as `dtype` into `folder`, in shards of at most `shard_bytes` (one
    tensor at least).

    Weights that the folder already had under the same layout are replaced. Rounding to BF16 passes
    through float32. Raises CheckpointError when the disk is full or a value is beyond the range of
    `dtype`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as temporary:
            shards = _write_shards(Path(temporary), tensors, dtype, shard_bytes)
            _rename(folder, Path(temporary), shards)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        key = "checkpoint.disk_full" if full else "checkpoint.cannot_write"
        raise CheckpointError(key, path=str(folder), reason=error.strerror) from None


class _Shard:
    """One file in the making: its data are collected in a file of their own, then copied behind the
    finished header.
    """

    def __init__(self, path: Path, dtype: FloatType) -> None:
        self.path = path
        self.dtype = dtype
        self.size = 0
        self.entries: dict[str, object] = {}
        self._data: BinaryIO = path.with_suffix(".data").open("w+b")

    def add(self, name: str, values: NDArray[Any]) -> None:
        stored = _stored(name, values, self.dtype)
        offsets = [self.size, self.size + stored.nbytes]
        self.entries[name] = {
            "dtype": self.dtype,
            "shape": list(values.shape),
            "data_offsets": offsets,
        }
        self._data.write(stored.reshape(-1).view(np.uint8).data)
        self.size += stored.nbytes

    def finish(self) -> None:
        header = json.dumps(
            {"__metadata__": {"format": "pt"}, **self.entries}, separators=(",", ":")
        ).encode()
        header += b" " * (-len(header) % 8)  # the data begin at a multiple of 8
        self._data.seek(0)
        with self.path.open("wb") as out:
            out.write(len(header).to_bytes(8, "little") + header)
            shutil.copyfileobj(self._data, out, _COPY_BYTES)
        self.close()

    def close(self) -> None:
        self._data.close()
        Path(self._data.name).unlink(missing_ok=True)


def _write_shards(
    folder: Path, tensors: Iterable[tuple[str, NDArray[Any]]], dtype: FloatType, shard_bytes: int
) -> list[_Shard]:
    item = 2 if dtype == "BF16" else np.dtype(_NUMPY[dtype]).itemsize
    shards = [_Shard(folder / "0", dtype)]
    try:
        for name, values in tensors:
            if shards[-1].size and shards[-1].size + values.size * item > shard_bytes:
                shards[-1].finish()
                shards.append(_Shard(folder / str(len(shards)), dtype))
            shards[-1].add(name, values)
        shards[-1].finish()
    finally:
        shards[-1].close()
    return shards


def _rename(folder: Path, temporary: Path, shards: list[_Shard]) -> None:
    """Move the finished files to their names, the index last; remove what an earlier save left."""
    count = len(shards)
    names = (
        [SINGLE]
        if count == 1
        else [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    )
    index = {
        "metadata": {"total_size": sum(shard.size for shard in shards)},
        "weight_map": {
            entry: name
            for name, shard in zip(names, shards, strict=True)
            for entry in shard.entries
        },
    }
    (temporary / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    for name, shard in zip(names, shards, strict=True):
        os.replace(shard.path, folder / name)
    if count > 1:
        os.replace(temporary / INDEX, folder / INDEX)
        names.append(INDEX)
    for old in folder.iterdir():
        if old.name not in names and re.fullmatch(
            r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json", old.name
        ):
            old.unlink()


def _stored(name: str, values: NDArray[Any], dtype: FloatType) -> NDArray[Any]:
    assert values.dtype.kind == "f", name
    with np.errstate(over="ignore"):
        stored = (
            to_bf16(values)
            if dtype == "BF16"
            else np.asarray(values, dtype=_NUMPY[dtype], order="C")
        )
    infinite = stored & 0x7FFF == 0x7F80 if dtype == "BF16" else np.isinf(stored)
    if not np.array_equal(infinite, np.isinf(values)):
        raise CheckpointError("checkpoint.too_large", name=name, dtype=dtype)
    return stored
