"""Products with a learned matrix."""

from __future__ import annotations

from dataclasses import dataclass

from lucidlm.trace.operations.base import Computed, Index, Operation, Values, Worked


@dataclass(frozen=True)
class Linear(Operation):
    """scale * x W^T + bias, W (out, in).

    `head_dim`: the result is cut into heads of that size. `joins`: x has heads, which are laid
    side by side. `first_only`: of position 0 alone (BERT's pooler).
    """

    kind = "dot"
    source: str
    weight: str
    bias: str | None
    scale: float = 1.0
    head_dim: int | None = None
    joins: bool = False
    first_only: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.source, self.weight, self.bias) if name)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class HeadOutputs(Operation):
    """What each head alone adds to attention's output: its columns of the output matrix; without
    the bias."""

    kind = "dot"
    source: str
    weight: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source, self.weight)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError
