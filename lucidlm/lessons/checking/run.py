"""A reader's file checked: it runs in a process of its own, and in another one again behind a
function that did not come back.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lucidlm.errors import LucidError
from lucidlm.lessons.checking import child
from lucidlm.lessons.checking.functions import FUNCTIONS
from lucidlm.lessons.checking.verdict import Report, Status, Verdict

SECONDS = 20.0  # for one call
STDERR = 2


def check(path: str, seconds: float = SECONDS) -> Report:
    """What is to be said of the functions in the file at `path`, which is run.

    Raises LucidError if it cannot be read or imported, or has none of the functions.
    """
    file = _existing(path)
    verdicts: list[Verdict] = []
    while True:
        part = _attempt(file, [verdict.function for verdict in verdicts], seconds)
        if not part.found:
            raise LucidError("check.nothing", path=path, names=", ".join(FUNCTIONS))
        verdicts += part.verdicts
        if part.is_done:
            break
    if all(verdict.status == "unwritten" for verdict in verdicts):
        raise LucidError("check.unwritten", path=path, names=", ".join(part.found))
    order = list(FUNCTIONS)
    verdicts.sort(key=lambda verdict: order.index(verdict.function))
    return Report(path, part.library, tuple(verdicts))


@dataclass(frozen=True)
class _Part:
    """What one process said."""

    found: Sequence[str]
    library: Any
    verdicts: Sequence[Verdict]
    is_done: bool


def _attempt(file: str, known: Sequence[str], seconds: float) -> _Part:
    """Judge the functions but the known ones, up to one that does not come back."""
    with tempfile.TemporaryDirectory(prefix="lucidlm-check-") as folder:
        code = _process(file, folder, seconds, known)
        report = (Path(folder) / child.REPORT).read_text(encoding="utf-8")
        stack = (Path(folder) / child.STACK).read_text(encoding="utf-8", errors="replace")
    entries = [json.loads(line) for line in report.splitlines()]
    said = {key: value for entry in entries for key, value in entry.items()}  # the latest of each
    line = _line(file, stack)
    if "failed" in said:
        raise LucidError(
            f"check.{said['failed']}_failed",
            path=file,
            where=_at(said["line"]),
            detail=said["detail"],
        )
    if "found" not in said:
        if stack:
            raise LucidError("check.import_endless", path=file, where=_at(line))
        raise LucidError("check.import_ended", path=file, code=code)
    verdicts = [Verdict(**entry["verdict"]) for entry in entries if "verdict" in entry]
    if "done" not in said:
        status: Status = "endless" if stack else "ended"
        detail = f"{seconds:g}" if stack else str(code)
        verdicts.append(Verdict(status=status, detail=detail, line=line, **said["calling"]))
    return _Part(said["found"], said["library"], verdicts, "done" in said)


def _process(file: str, folder: str, seconds: float, known: Sequence[str]) -> int:
    """Run the child; what the file prints goes to our stderr. Returns the exit code."""
    command = [sys.executable, "-P", "-u", "-m", child.__name__, file, folder, str(seconds), *known]
    paths = os.pathsep.join(filter(None, sys.path))  # it imports what we import
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=STDERR,
        env=os.environ | {"PYTHONPATH": paths},
    ).returncode


def _existing(path: str) -> str:
    """The absolute path of a file that can be read."""
    try:
        with open(path, "rb"):
            return os.path.abspath(path)
    except IsADirectoryError:
        raise LucidError("check.folder", path=path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LucidError("check.unreadable", path=path, reason=reason) from None


def _line(file: str, stack: str) -> int | None:
    """Where in the file a call was when its time was over: the innermost line of it."""
    name = Path(file).name.encode("ascii", "backslashreplace").decode()
    found = re.search(rf'File ".*{re.escape(name)}", line (\d+) in', stack)
    return int(found[1]) if found else None


def _at(line: int | None) -> str:
    return "" if line is None else f":{line}"
