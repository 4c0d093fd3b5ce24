"""The steps of attention (Vaswani et al. 2017, 3.2) and of rotary positions (Su et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from lucidlm.config import MaskKind, Rope
from lucidlm.trace.operations.base import Computed, Index, Operation, Values, Worked


@dataclass(frozen=True)
class Rotate(Operation):
    """Dimensions (i, i + D/2) turned by position * frequency_i."""

    kind = "rotate"
    source: str
    rope: Rope

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class Dot(Operation):
    """query . key; `group` query heads share a key head."""

    kind = "dot"
    query: str
    key: str
    group: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.query, self.key)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class ScaleAndMask(Operation):
    """products * scale (+ bias), -inf where `mask` or `window` hides the key."""

    kind = "scale_and_mask"
    products: str
    scale: float
    bias: str | None
    mask: MaskKind
    window: int | None

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.products, self.bias) if name)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class Softmax(Operation):
    """exp(x - max) / sum(exp(x - max)) over the last axis; 0 in a row that sees nothing."""

    kind = "softmax"
    source: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class WeightedSum(Operation):
    """sum over keys of pattern * value; `group` query heads share a value head."""

    kind = "weighted_sum"
    pattern: str
    value: str
    group: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.pattern, self.value)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError
