"""One number as a program of a few lines: its operands in a file, and NumPy that works it out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lucidlm.errors import TraceError
from lucidlm.files import write_atomic


def write_operands(path: Path, arrays: Mapping[str, Any]) -> None:
    """`arrays` by name as .npz; what is there already is replaced in one move. Raises TraceError
    where nothing can be written.
    """
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays)
    try:
        write_atomic(path, data.getvalue())
    except OSError as error:
        reason = error.strerror or str(error)
        raise TraceError("trace.cannot_write", path=path, reason=reason) from None


def script(address: str, equation: str, path: Path, names: Sequence[str], body: str) -> str:
    """A program that loads `names` from `path`, assigns `value` as `body` does, and prints it."""
    lines = [f"# {address}"]
    lines += [f"# {equation}"] if equation else []
    lines += ["import numpy as np", ""]
    lines.append(f"operands = np.load({str(path)!r}, allow_pickle=False)")
    lines += [f"{name} = operands[{name!r}]" for name in names]
    return "\n".join([*lines, "", body.rstrip(), "", "print(value)", ""])
