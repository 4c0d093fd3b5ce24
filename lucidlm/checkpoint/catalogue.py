"""What `pull` can fetch: one row of `catalogue.json` a model, and where a pulled one lies.

A file of a model is the concatenation of members of wheels, with the SHA-256 and size of the result
pinned here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lucidlm.errors import UnknownName
from lucidlm.home import models_home

MARKER = "pulled.json"  # written last into a model's folder


@dataclass(frozen=True, kw_only=True)
class Part:
    """One member of one wheel; `package` is "name==version"."""

    package: str
    member: str


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the model: its parts in order, what they must hash to, and how the result is
    converted, if at all.
    """

    name: str
    sha256: str
    bytes: int
    parts: tuple[Part, ...]
    convert: str | None = None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Conditions to accept before the model is fetched: the file of the model that states them, and
    their page.
    """

    file: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model: its wheels (with their sizes in bytes) and its files."""

    name: str
    family: str
    licence: str
    packages: Mapping[str, int]
    files: tuple[File, ...]
    terms: Terms | None = None

    @property
    def about(self) -> str:
        """Key of the sentence that says what the model is."""
        return f"pull.about_{self.name}"

    @property
    def folder(self) -> Path:
        """Where the model lies once pulled."""
        return models_home() / self.name

    @property
    def download_bytes(self) -> int:
        return sum(self.packages.values())

    @property
    def marker(self) -> dict[str, Any]:
        """What the marker file of a complete folder says: the checksums of what its files were made
        from.
        """
        return {file.name: {"sha256": file.sha256, "convert": file.convert} for file in self.files}


@cache
def catalogue() -> Mapping[str, Row]:
    """Every model that can be pulled, by name."""
    rows = json.loads((Path(__file__).parent / "catalogue.json").read_text(encoding="utf-8"))
    return MappingProxyType({row["name"]: _row(row) for row in rows})


def find(name: str) -> Row:
    """The row called `name`; UnknownName lists the nearest others."""
    try:
        return catalogue()[name]
    except KeyError:
        raise UnknownName("pull.unknown", name, catalogue()) from None


def is_pulled(row: Row) -> bool:
    """Whether the folder is there, complete, and made from these very files."""
    try:
        marker = json.loads((row.folder / MARKER).read_text(encoding="utf-8"))
        return bool(marker == row.marker) and all(
            (row.folder / file.name).is_file() for file in row.files
        )
    except (OSError, ValueError):
        return False


def installed() -> list[Row]:
    """The models that are on this machine, in the catalogue's order."""
    return [row for row in catalogue().values() if is_pulled(row)]


def _row(row: dict[str, Any]) -> Row:
    files = tuple(_file(**file) for file in row["files"])
    terms = Terms(**row["terms"]) if "terms" in row else None
    return Row(**(row | {"files": files, "terms": terms}))


def _file(*, parts: list[tuple[str, str]], **fields: Any) -> File:
    pairs = tuple(Part(package=package, member=member) for package, member in parts)
    return File(parts=pairs, **fields)
