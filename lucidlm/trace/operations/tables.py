"""Values read off a table, or off a formula of the position: look-up, sinusoids, T5's bias."""

from __future__ import annotations

from dataclasses import dataclass

from lucidlm.config import RelativeBias
from lucidlm.trace.operations.base import Computed, Index, Operation, Values, Worked


@dataclass(frozen=True)
class Lookup(Operation):
    """table[id] * scale; `index` names the ids, None takes the position plus `offset`."""

    kind = "lookup"
    table: str
    index: str | None
    offset: int = 0
    scale: float = 1.0

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.table, self.index) if name)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class Sinusoid(Operation):
    """[sin | cos] of position / 10000^(2i/n) (Vaswani et al. 2017, 3.5); `like` is a site of the same
    shape."""

    kind = "sinusoid"
    like: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.like,)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class BiasTable(Operation):
    """table[bucket(key - query), head] (Raffel et al. 2020, 2.1); `like` is a site of the same
    shape."""

    kind = "bias_table"
    table: str
    relative: RelativeBias
    two_sided: bool
    like: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.table, self.like)

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError
