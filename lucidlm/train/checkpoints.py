"""Checkpoints that are whole or not there: `checkpoints/step-000500/`, tensors and what they mean.

Written beside their place under another name, forced to the disk, and put there in one move. A
process that dies at any moment leaves the one before. Nothing in them is code.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from lucidlm.errors import TrainError

FOLDER = "checkpoints"
SAID = "state.json"
NAME = re.compile(r"step-(\d{6,})")
UNFINISHED = ".unfinished-"
Array = NDArray[Any]
SHARD_BYTES = 1 << 30  # of a file: it is laid out in memory before it is written


@dataclass(frozen=True)
class Saved:
    """A complete checkpoint."""

    step: int
    folder: Path
    said: Mapping[str, Any]

    def arrays(self) -> dict[str, Array]:
        """Everything it holds. Raises TrainError where a file is damaged."""
        found: dict[str, Array] = {}
        for name in self.said["files"]:
            try:
                found |= safetensors.numpy.load_file(self.folder / name)
            except (OSError, safetensors.SafetensorError) as error:
                raise TrainError(
                    "training.damaged", path=str(self.folder / name), reason=str(error)
                ) from None
        return found


def save(run: Path, step: int, arrays: Mapping[str, Array], said: Mapping[str, Any]) -> Path:
    """Write the checkpoint of `step` into the run's folder; returns its own.

    Raises TrainError where the disk is full or cannot be written; the checkpoints before it are as
    they were.
    """
    place = run / FOLDER / f"step-{step:06d}"
    unfinished = place.parent / f"{UNFINISHED}{place.name}"
    try:
        unfinished.mkdir(parents=True)
        files: dict[str, int] = {}
        shards = list(_shards(arrays))
        for at, shard in enumerate(shards):
            name = f"state-{at + 1:05d}-of-{len(shards):05d}.safetensors"
            name = name if len(shards) > 1 else "state.safetensors"
            files[name] = _write(unfinished / name, safetensors.numpy.save(shard))
        content = {"step": step, "files": files, **said}
        _write(unfinished / SAID, json.dumps(content, indent=1, ensure_ascii=False).encode())
        _sync(unfinished)
        shutil.rmtree(place, ignore_errors=True)  # an older run's that got no further
        os.rename(unfinished, place)
        _sync(place.parent)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise failed_to_write(error, place) from None
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return place


def complete(run: Path) -> list[Saved]:
    """The run's checkpoints by step, those only that are whole."""
    found = []
    folder = run / FOLDER
    for place in folder.iterdir() if folder.is_dir() else ():
        if NAME.fullmatch(place.name) and (said := _said(place)) is not None:
            found.append(Saved(said["step"], place, said))
    return sorted(found, key=lambda one: one.step)


def newest(run: Path) -> Saved | None:
    """The one to go on from; None where there is none."""
    return next(reversed(complete(run)), None)


def tidy(run: Path, keep: int | None = None) -> None:
    """Remove what was never finished, and with `keep` all but the newest checkpoint and so many
    before it.
    """
    folder = run / FOLDER
    for place in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(place, ignore_errors=True)
    for old in () if keep is None else complete(run)[: -1 - keep]:
        rest = folder / f"{UNFINISHED}{old.folder.name}"
        os.rename(old.folder, rest)  # a removal that is cut short leaves no half of one
        shutil.rmtree(rest, ignore_errors=True)


def failed_to_write(error: OSError, path: Path) -> TrainError:
    """What a failed write of part of a run is to its user."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    key = "training.disk_full" if full else "training.cannot_write"
    return TrainError(key, path=str(path), reason=error.strerror or str(error))


def _said(place: Path) -> dict[str, Any] | None:
    """What a checkpoint says of itself, if all it names is there in full length."""
    try:
        said = json.loads((place / SAID).read_text(encoding="utf-8"))
        sizes = {name: (place / name).stat().st_size for name in said["files"]}
        whole = sizes == said["files"] and f"step-{said['step']:06d}" == place.name
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said if whole and all("/" not in name for name in sizes) else None


def _shards(arrays: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    shard: dict[str, Array] = {}
    size = 0
    for name, array in arrays.items():
        if shard and size + array.nbytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = np.asarray(array, order="C")
        size += array.nbytes
    yield shard


def _write(path: Path, data: bytes) -> int:
    """Put `data` on the disk, not only on its way there; returns its size."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return len(data)


def _sync(folder: Path) -> None:
    """Force a folder's list of names to the disk, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
