"""A trace: one run over one sequence, and all that can be asked of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from lucidlm.engine import Engine
from lucidlm.trace import files
from lucidlm.trace.run import Run


@dataclass(frozen=True, eq=False)
class Trace(Run):
    """One run over one sequence: `Run` holds the values, this the verbs."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was captured to a safetensors file."""
        files.save(self, path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], engine: Engine | None = None) -> Self:
        """A saved trace. With the engine that made it, what was not captured can be recomputed.

        Raises TraceError for a file that is none or is damaged, and for an engine with other
        weights.
        """
        header, backing, edits = files.read(path, engine)
        return cls(header=header, backing=backing, engine=engine, edits=edits)
