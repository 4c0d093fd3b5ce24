"""safetensors files (https://github.com/huggingface/safetensors#format): one file, or shards under
an index.

The header is checked in full before a byte of it is believed. Writing is in `safetensors_write`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lucidlm.checkpoint.tensors import (
    PLAIN,
    Bytes,
    MappedFile,
    MappedTensors,
    count_elements,
    decode,
    plain_decoder,
    result_dtype,
)
from lucidlm.errors import CheckpointError

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

_HEADER_LIMIT = 100_000_000  # bytes; the format's own
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SIZES: Final = {"BF16": 2, **{name: dtype.itemsize for name, dtype in PLAIN.items()}}
_SHOWN = 80  # characters of a name that an error repeats


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: where its bytes lie in `file`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    file: MappedFile


class Safetensors(MappedTensors[TensorInfo]):
    """An open file or a set of shards, a `TensorSource`."""

    def dtype(self, name: str) -> str:
        """The storage type: "F32", "BF16", ..."""
        return self._info(name).dtype

    def stored(self, name: str) -> Bytes:
        """The bytes as they lie in the file, flat: a read-only view of it."""
        info = self._info(name)
        return info.file.data[info.start : info.stop]

    def read(self, name: str, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """The values as a contiguous array of the caller's own in the float type `dtype`; integers
        keep their type.
        """
        info = self._info(name)
        plain = plain_decoder(info.dtype)
        assert plain is not None
        out = np.empty(info.shape, dtype=result_dtype(info.dtype, dtype))
        decode(info.file.data[info.start : info.stop], *plain, out.reshape(-1))
        info.file.give_back(info.start, info.stop)
        return out


def open_safetensors(path: Path) -> Safetensors:
    """The tensors of a .safetensors file, a shard index, or a folder with either; CheckpointError
    where they cannot be read.

    Pickled checkpoints are refused: reading one runs code that it brings along.
    """
    if path.suffix.lower() in _PICKLED:
        raise CheckpointError("checkpoint.pickle", path=str(path))
    file = _weights_in(path) if path.is_dir() else path
    if file.name.endswith(".json"):
        return Safetensors(path, _sharded(file))
    return Safetensors(path, _read_header(MappedFile(file)))


def _weights_in(folder: Path) -> Path:
    for name in (SINGLE, INDEX):
        if (folder / name).is_file():
            return folder / name
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if pickled := sorted(file for file in folder.iterdir() if file.suffix.lower() in _PICKLED):
        raise CheckpointError("checkpoint.pickle", path=str(pickled[0]))
    raise CheckpointError("checkpoint.no_weights", path=str(folder))


def _sharded(index: Path) -> dict[str, TensorInfo]:
    """The tensors that `weight_map` lists, each from the shard beside the index that it names."""
    path = str(index)
    try:
        content = index.read_bytes() if index.stat().st_size <= _HEADER_LIMIT else b""
    except OSError as error:
        raise CheckpointError("checkpoint.unreadable", path=path, reason=error.strerror) from None
    places = _json_object(content, index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise CheckpointError("checkpoint.index", path=path)
    shards: dict[str, dict[str, TensorInfo]] = {}
    for shard in dict.fromkeys(places.values()):
        if not shard.endswith(".safetensors") or any(sign in shard for sign in "/\\:\0"):
            raise CheckpointError("checkpoint.shard_place", path=path, shard=shard[:_SHOWN])
        shards[shard] = _read_header(MappedFile(index.parent / shard))
    for name, shard in places.items():
        if name not in shards[shard]:
            raise CheckpointError(
                "checkpoint.shard_lacks", path=path, shard=shard, name=name[:_SHOWN]
            )
    return {name: shards[shard][name] for name, shard in places.items()}


def _read_header(file: MappedFile) -> dict[str, TensorInfo]:
    """Every tensor of one file, in the order of their bytes, which must cover the file without gap
    or overlap.
    """
    path = str(file.path)
    length = int.from_bytes(bytes(file.data[:8]), "little")
    if len(file.data) < 8 or length > len(file.data) - 8:
        raise CheckpointError("checkpoint.safetensors_header", path=path)
    if length > _HEADER_LIMIT:
        raise CheckpointError(
            "checkpoint.header_too_long", path=path, length=length, limit=_HEADER_LIMIT
        )
    header = _json_object(bytes(file.data[8 : 8 + length]), file.path)
    header.pop("__metadata__", None)
    tensors = [_entry(name, entry, 8 + length, file) for name, entry in header.items()]
    tensors.sort(key=lambda info: (info.start, info.stop))
    at = 8 + length
    for info in tensors:
        if info.start != at:
            raise CheckpointError("checkpoint.safetensors_gap", path=path, name=info.name[:_SHOWN])
        at = info.stop
    if at != len(file.data):
        raise CheckpointError(
            "checkpoint.safetensors_size", path=path, expected=at, found=len(file.data)
        )
    return {info.name: info for info in tensors}


def _entry(name: str, entry: object, data_start: int, file: MappedFile) -> TensorInfo:
    path, shown = str(file.path), name[:_SHOWN]
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, stop]} if (
            _naturals([*shape, start, stop])
        ):
            pass
        case _:
            raise CheckpointError("checkpoint.safetensors_entry", path=path, name=shown)
    if dtype not in _SIZES:
        raise CheckpointError(
            "checkpoint.unsupported_type",
            path=path,
            name=shown,
            type=dtype[:_SHOWN],
            supported=", ".join(_SIZES),
        )
    if (elements := count_elements(shape)) is None:
        raise CheckpointError("checkpoint.shape", path=path, name=shown, shape=shape[:8])
    if stop - start != elements * _SIZES[dtype]:
        raise CheckpointError(
            "checkpoint.safetensors_bytes", path=path, name=shown, dtype=dtype, shape=list(shape)
        )
    if data_start + stop > len(file.data):
        raise CheckpointError("checkpoint.outside", path=path, name=shown)
    return TensorInfo(name, dtype, tuple(shape), data_start + start, data_start + stop, file)


def _naturals(values: list[object]) -> bool:
    return all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values
    )


def _json_object(content: bytes, path: Path) -> dict[str, Any]:
    """A JSON object without repeated keys."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError
        return found

    try:
        value = json.loads(content, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise CheckpointError("checkpoint.safetensors_json", path=str(path))
    return value
