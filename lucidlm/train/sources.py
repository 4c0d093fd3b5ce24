"""Rows out of files: .txt, .jsonl, .tsv and .parquet, plain or .gz, alone or in folders.

Files are streamed: one row is in memory at a time, a .txt without `lines` excepted, which is one
document. What cannot be learnt from is named by file and line.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from lucidlm.errors import MissingExtra, TrainError, nearest
from lucidlm.train.recipe import Source
from lucidlm.train.rows import Complaint, Row, TextRow, pair, row_of

KINDS = (".txt", ".jsonl", ".tsv", ".parquet")
CHUNK = 1 << 20
PARQUET_ROWS = 4096


def files_of(source: Source, base: Path) -> list[Path]:
    """The files that a source names: itself, or what a folder holds, in order of their names.

    Raises TrainError where there is none, or one of a kind that is not read.
    """
    path = base / Path(source.path).expanduser()
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and kind(file))
        if not found:
            raise TrainError("dataset.empty_folder", path=source.path, kinds=", ".join(KINDS))
        return found
    if not path.is_file():
        there = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
        near = ", ".join(nearest(path.name, there)) or "-"
        raise TrainError("dataset.no_file", path=source.path, nearest=near)
    if not kind(path):
        raise TrainError("dataset.unknown_kind", path=source.path, kinds=", ".join(KINDS))
    return [path]


def kind(path: Path) -> str:
    """The kind of a file by its name, `.gz` aside; empty where it is none that is read."""
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else ""


def rows_of(source: Source, base: Path) -> Iterator[tuple[Row, str]]:
    """Every row of a source with the place that it stands in ("file:line").

    Raises TrainError for a file without a row.
    """
    for path in files_of(source, base):
        count = 0
        for row, place in _read(path, source):
            count += 1
            yield row, place
        if not count:
            raise TrainError("dataset.empty", path=path.name)


def hash_files(paths: Iterable[Path]) -> str:
    """A digest of the files' contents, whatever they are called."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        digest.update(b"\0end\0")
    return digest.hexdigest()


def _read(path: Path, source: Source) -> Iterator[tuple[Row, str]]:
    try:
        match kind(path):
            case ".parquet":
                yield from _parquet(path, source)
            case ".txt" if not source.lines:
                text = "".join(line for _, line in _lines(path))
                if text.strip():
                    yield TextRow(text), path.name
            case suffix:
                for number, line in _lines(path):
                    if line.strip():
                        place = f"{path.name}:{number}"
                        yield _checked(_row(line, suffix, source), place), place
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise TrainError("dataset.unreadable", path=path.name, reason=str(error)) from None


def _row(line: str, suffix: str, source: Source) -> Row | Complaint:
    """The row that one line of a file is."""
    if suffix == ".txt":
        return TextRow(line.rstrip("\r\n"))
    if suffix == ".tsv":
        columns = line.rstrip("\r\n").split("\t")
        if len(columns) != 2:
            return "dataset.bad_columns", {"count": len(columns)}
        return pair(*columns)
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return "dataset.bad_json", {"reason": str(error)}
    if not isinstance(fields, dict):
        return "dataset.bad_json", {"reason": type(fields).__name__}
    return row_of(fields, source.text)


def _checked(found: Row | Complaint, place: str) -> Row:
    if isinstance(found, tuple):
        key, values = found
        raise TrainError(key, place=place, **values)
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of UTF-8 text, their ends kept. Raises TrainError for anything else."""
    with _opened(path) as file:
        at = 0
        for number, line in enumerate(file, 1):
            if b"\0" in line:
                raise TrainError("dataset.binary", path=path.name, at=at + line.index(b"\0"))
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise TrainError(
                    "dataset.encoding", place=f"{path.name}:{number}", at=at + error.start
                ) from None
            yield number, text
            at += len(line)


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def _parquet(path: Path, source: Source) -> Iterator[tuple[Row, str]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise MissingExtra("train", path.name) from None
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches(PARQUET_ROWS):
                for fields in batch.to_pylist():
                    number += 1
                    place = f"{path.name}:{number}"
                    known: dict[str, Any] = {k: v for k, v in fields.items() if v is not None}
                    yield _checked(row_of(known, source.text), place), place
    except (pyarrow.ArrowException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TrainError("dataset.unreadable", path=path.name, reason=reason) from None
