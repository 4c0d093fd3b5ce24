"""The steps of LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019), over the last axis."""

from __future__ import annotations

from dataclasses import dataclass

from lucidlm.trace.operations.base import Computed, Index, Operation, Values, Worked


@dataclass(frozen=True)
class Mean(Operation):
    """sum(x) / n"""

    kind = "mean"
    source: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class Deviation(Operation):
    """sqrt(sum((x - mean)^2) / n + eps); without a mean (RMSNorm) of x itself."""

    kind = "scale"
    source: str
    mean: str | None
    eps: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.source, self.mean) if name)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class Normalize(Operation):
    """(x - mean) / scale; without a mean x / scale."""

    kind = "normalize"
    source: str
    mean: str | None
    scale: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.source, self.mean, self.scale) if name)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class Gain(Operation):
    """normalized * (weight + offset) (+ bias)"""

    kind = "gain"
    source: str
    weight: str
    bias: str | None
    offset: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.source, self.weight, self.bias) if name)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError
