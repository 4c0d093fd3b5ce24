"""Fetches wheels with the user's own pip: its index, mirror, proxy and certificates are the user's
settings.

`--only-binary=:all: --no-deps` means that nothing of a package ever runs. Finished wheels are kept
in the folder and not fetched again, so that a pull that was cut short goes on where it was.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from lucidlm.errors import PullError

_POLL_SECONDS = 0.1
_NO_SPACE = ("No space left on device", "Disk quota exceeded", "not enough space on the disk")
_NO_NETWORK = (
    "Retrying (",
    "ConnectionError",
    "NewConnectionError",
    "Read timed out",
    "Connection aborted",
    "ProxyError",
)
_NOT_FOUND = ("No matching distribution found", "Could not find a version")


def fetch_wheel(package: str, folder: Path, progress: Callable[[int], None]) -> Path:
    """The wheel of `package` ("name==version") in `folder`, fetched unless it is there; `progress`
    sees its bytes so far.

    Raises PullError when there is no pip, no network, no such package or no room.
    """
    if wheel := _finished(package, folder):
        return wheel
    if find_spec("pip") is None:
        raise PullError("pull.no_pip", python=sys.executable)
    with tempfile.TemporaryDirectory(prefix="incoming-", dir=folder) as incoming:
        done = _run_pip(package, Path(incoming), progress)
        for wheel in done.glob("*.whl"):
            os.replace(wheel, folder / wheel.name)
    if wheel := _finished(package, folder):
        return wheel
    raise PullError("pull.not_found", package=package)


def _finished(package: str, folder: Path) -> Path | None:
    name, _, version = package.partition("==")
    start = f"{re.sub(r'[-_.]+', '_', name)}-{version}-".lower()
    return next(
        (path for path in folder.glob("*.whl") if path.name.lower().startswith(start)), None
    )


def _run_pip(package: str, incoming: Path, progress: Callable[[int], None]) -> Path:
    """One `pip download`; returns the folder of the result.

    pip's temporary files lie in `incoming` too: their growth is the progress, whatever pip's
    version.
    """
    done = incoming / "done"
    command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--no-deps"]
    command += ["--ignore-requires-python", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(done), package]
    temporary = incoming / "temporary"
    temporary.mkdir()
    environment = os.environ | {"PIP_REQUIRE_VIRTUALENV": "0"}  # nothing is installed
    environment |= dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(temporary))
    with (incoming / "pip.log").open("w+b") as log:
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            most = 0  # pip empties its folder before it ends
            while not _ended(child):
                most = max(most, _bytes_below(temporary))
                progress(most)
        finally:
            _stop(child)
        log.seek(0)
        output = log.read().decode(errors="replace")
    if child.returncode != 0:
        raise _failure(package, output, incoming.parent)
    return done


def _ended(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:  # pip removed it between the two calls
                continue
    return total


def _failure(package: str, output: str, folder: Path) -> PullError:
    if any(sign in output for sign in _NO_SPACE):
        return PullError("pull.disk_full", path=str(folder))
    if any(sign in output for sign in _NO_NETWORK):
        return PullError("pull.no_network", package=package)
    if any(sign in output for sign in _NOT_FOUND):
        return PullError("pull.not_found", package=package)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    reason = next(
        (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "-"
    )
    return PullError(
        "pull.pip_failed", package=package, reason=reason.removeprefix("ERROR:").strip()[:300]
    )
