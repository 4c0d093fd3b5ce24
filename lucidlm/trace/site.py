"""One row of the catalogue: a named place in a model's computation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lucidlm.trace.operations import Operation
from lucidlm.trace.rows import LOOKS, ROWS, Axes

PARAMETERS = (".weight", ".bias")  # how their addresses end

# A position is counted along the sequence that a stack reads.
Length = Literal["positions", "sources"]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A named place in one model's computation."""

    address: str
    key: str  # of its row, and of its words
    sizes: tuple[int | Length, ...]  # along the axes; a length is that of the sequence read
    operation: Operation
    part: (
        str  # what replays it: "layers.3", "embedding", ...; "sampling" and "tokenizer" for theirs
    )
    derived: bool = False  # not computed by the engine, but from what it computed

    @property
    def axes(self) -> Axes:
        return ROWS[self.key].axes

    @property
    def grows(self) -> bool:
        """Whether its last axis counts the keys of a sequence that is still being written."""
        return self.axes == LOOKS and self.sizes[2] == "positions"

    @property
    def is_computed(self) -> bool:
        """Whether the engine computes it, so that it can be captured and edited."""
        return not self.derived and self.part not in {"sampling", "tokenizer"}

    @property
    def equation(self) -> str:
        return ROWS[self.key].equation

    def shape(self, positions: int, sources: int = 0) -> tuple[int, ...]:
        """Its size where the sequence has `positions`, and the encoder's (of two) `sources`."""
        lengths = {"positions": positions, "sources": sources}
        return tuple(lengths[n] if isinstance(n, str) else n for n in self.sizes)


def parameter_axes(name: str, dimensions: int) -> tuple[str, ...]:
    """The names of a parameter's axes."""
    if dimensions == 1:
        return ("dim",) if "norm" in name else ("out",)
    tables = {
        "tokens.weight": ("word", "dim"),
        "head.weight": ("word", "dim"),
        "positions.weight": ("row", "dim"),
        "segments.weight": ("segment", "dim"),
        "position_bias.weight": ("bucket", "head"),
    }
    return next((axes for end, axes in tables.items() if name.endswith(end)), ("out", "in"))
