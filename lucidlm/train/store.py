"""Ids on disk, memory-mapped: written once, read by whoever has the same data and tokenizer."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lucidlm.train.rendering import Document

META = "corpus.json"
BUFFER = 1 << 20  # ids that are held before they are written


@dataclass(frozen=True, eq=False)
class Store:
    """Documents one behind the other: document d is ids[offsets[d] : offsets[d + 1]].

    `learn` says which ids are to be guessed, where not all are; `source_ids` and `source_offsets`
    are what the encoder reads, where there is one.
    """

    ids: NDArray[Any]
    offsets: NDArray[np.int64]
    learn: NDArray[np.bool_] | None = None
    source_ids: NDArray[Any] | None = None
    source_offsets: NDArray[np.int64] | None = None

    @property
    def documents(self) -> int:
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        """Ids of both sides."""
        return int(self.offsets[-1]) + (0 if self.source_ids is None else len(self.source_ids))


def write_store(folder: Path, documents: Iterable[Document], vocab_size: int) -> int:
    """Write `documents` into `folder`, and return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    lengths, source_lengths, spans = [], [], False
    with (
        _Growing(folder / "ids.bin", dtype) as ids,
        _Growing(folder / "learn.bin", np.bool_) as learn,
        _Growing(folder / "source.bin", dtype) as source,
    ):
        for document in documents:
            ids.add(document.ids)
            size = len(document.ids)
            learn.add([True] * size if document.learn is None else document.learn)
            spans = spans or document.learn is not None
            source.add(document.source)
            lengths.append(size)
            source_lengths.append(len(document.source))
    np.save(folder / "offsets.npy", _offsets(lengths))
    np.save(folder / "source_offsets.npy", _offsets(source_lengths))
    if not spans:
        (folder / "learn.bin").unlink()
    if not any(source_lengths):
        (folder / "source.bin").unlink()
        (folder / "source_offsets.npy").unlink()
    meta = {"dtype": np.dtype(dtype).name, "documents": len(lengths)}
    (folder / META).write_text(json.dumps(meta), encoding="utf-8")
    return len(lengths)


def open_store(folder: Path) -> Store:
    """What `write_store` wrote, memory-mapped. Raises ValueError or OSError where it is damaged."""
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    dtype, count = np.dtype(meta["dtype"]), int(meta["documents"])
    offsets = np.load(folder / "offsets.npy", allow_pickle=False)
    ids = _mapped(folder / "ids.bin", dtype)
    if len(offsets) != count + 1 or int(offsets[-1]) != len(ids):
        raise ValueError("offsets")
    learn = source = source_offsets = None
    if (folder / "learn.bin").is_file():
        learn = _mapped(folder / "learn.bin", np.dtype(np.bool_))
        if len(learn) != len(ids):
            raise ValueError("learn")
    if (folder / "source.bin").is_file():
        source = _mapped(folder / "source.bin", dtype)
        source_offsets = np.load(folder / "source_offsets.npy", allow_pickle=False)
        if len(source_offsets) != count + 1 or int(source_offsets[-1]) != len(source):
            raise ValueError("source")
    return Store(ids, offsets, learn, source, source_offsets)


def publish(unfinished: Path, folder: Path) -> None:
    """Put a finished folder in its place in one move; if another process was sooner, its own
    stands, which holds the same.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(unfinished, folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(unfinished, ignore_errors=True)


def unfinished_beside(folder: Path) -> Path:
    """A new empty folder to write in, on the same disk as `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))


def _offsets(lengths: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")


class _Growing:
    """An array that is written as it grows."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.file: BinaryIO = path.open("wb")
        self.waiting: list[int | bool] = []

    def __enter__(self) -> _Growing:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self.file.close()

    def add(self, values: Iterable[int | bool]) -> None:
        self.waiting.extend(values)
        if len(self.waiting) >= BUFFER:
            self._write()

    def _write(self) -> None:
        self.file.write(np.array(self.waiting, self.dtype).tobytes())
        self.waiting.clear()
