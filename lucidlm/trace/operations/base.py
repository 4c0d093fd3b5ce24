"""What an operation is: it can compute a whole site in float64, and take one cell of it apart.

Both read the recorded values of the sites before it, so each is a check of one step, not of the
whole way there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lucidlm.generate.sampling import Sampled

Array = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]
Index = tuple[int, ...]  # of a cell, along the site's axes; positions are absolute

Kind = Literal[
    "lookup",
    "sinusoid",
    "bias_table",
    "copy",
    "add",
    "multiply",
    "unary",
    "dot",
    "mean",
    "scale",
    "normalize",
    "gain",
    "rotate",
    "round",
    "scale_and_mask",
    "softmax",
    "weighted_sum",
    "sample",
    "tokenize",
]


class Values(Protocol):
    """One sequence's recorded values, positions from 0, and the weights that made them."""

    def read(self, address: str) -> Any:
        """A whole site along its axes as the engine computed it; `ids` and `segments` of a stack,
        `sampling.*` and `tokenizer.*` likewise. Do not write into it.
        """
        ...

    def weight(self, address: str) -> Array:
        """A parameter, as the engine used it. Do not write into it."""
        ...

    def sampled(self, position: int) -> Sampled:
        """How the token at `position` was chosen, from the logits of the position before it."""
        ...

    def start(self, address: str) -> int:
        """The position at index 0 of a site's position axis: 0, but for `sampling.*` the first
        position that was chosen.
        """
        ...


@dataclass(frozen=True, eq=False)
class Computed:
    """A whole site again. `magnitude` is, cell by cell, the sum of the absolute values of
    everything that was added up: rounding errors are a multiple of it. None says that the
    operation rounds once, so the recorded value must be this one rounded.
    """

    value: Doubles
    magnitude: Doubles | None


@dataclass(frozen=True, eq=False)
class Terms:
    """What a cell is the sum of: `values` (n,), each the product of `factors` (each (n,)).

    `addresses(i)` names the cells that the factors of term i were read from, in their order; a
    factor without a cell of its own (a constant, 1/n) has the address "".
    """

    values: Doubles
    factors: tuple[Doubles, ...]
    addresses: Callable[[int], tuple[str, ...]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Worked:
    """One cell taken apart.

    `total` is the result in float64. `expression` is the equation with its numbers (a sum of more
    than a few terms names only their count). `steps` are named numbers on the way (the highest
    score, the sum of exponentials, an angle), each with the address of the cell it is, or "".
    `program` is NumPy that assigns `value` from `arrays`, under which they are its variables.
    `note` is the key of a sentence about this cell in `lucidlm.locale` with its values (why it is
    masked, what cut a candidate), or None. `magnitude` is the cell's in `Computed`; None says that
    it is the sum of the terms' absolute values.
    """

    terms: Terms
    total: float
    expression: str
    program: str
    arrays: Mapping[str, Any]
    steps: tuple[tuple[str, float, str], ...] = ()
    note: tuple[str, Mapping[str, object]] | None = None
    magnitude: float | None = None


@dataclass(frozen=True)
class Operation(ABC):
    """How a site follows from others. Fields that are addresses name the sites and parameters it
    reads.
    """

    kind: ClassVar[Kind]

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Addresses of the sites and parameters it reads."""

    @abstractmethod
    def compute(self, values: Values) -> Computed:
        """The whole site in float64 from the recorded values of its inputs."""

    @abstractmethod
    def cell(self, values: Values, at: Index) -> Worked:
        """One cell with its terms."""


def cell(address: str, *index: tuple[str, int]) -> str:
    """`cell("layers.0.residual_in", ("position", 3), ("dim", 5))` ->
    "layers.0.residual_in[position=3, dim=5]".
    """
    inside = ", ".join(f"{axis}={at}" for axis, at in index)
    return f"{address}[{inside}]"
