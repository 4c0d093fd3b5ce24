"""Values read off a table, or off a formula of the position: look-up, sinusoids, T5's bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lucidlm.config import RelativeBias
from lucidlm.reference.equations import Integers, bucket, sinusoids, wide
from lucidlm.trace.numbers import digits
from lucidlm.trace.operations.base import Computed, Index, Operation, Values, Worked, cell
from lucidlm.trace.operations.working import equation, terms_of

ROWS_OF = {"tokens": "word", "positions": "row", "segments": "segment"}  # a table's first axis


@dataclass(frozen=True)
class Lookup(Operation):
    """table[id] * scale; `index` names the ids, None takes the position plus `offset`, and then
    `like` is a site of as many positions.
    """

    kind = "lookup"
    table: str
    index: str | None
    offset: int = 0
    scale: float = 1.0
    like: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.table, self.index, self.like) if name)

    def compute(self, values: Values) -> Computed:
        value = wide(values.weight(self.table)[self._rows(values)]) * self.scale
        return Computed(value, None if self.scale == 1.0 else np.abs(value))

    def cell(self, values: Values, at: Index) -> Worked:
        position, dim = at
        row_number = int(self._rows(values)[position])
        row = wide(values.weight(self.table)[row_number])
        axis = ROWS_OF[self.table.split(".")[-2]]
        address = cell(self.table, (axis, row_number), ("dim", dim))
        source = "" if self.index is None else cell(self.index, ("position", position))
        if self.scale == 1.0:
            terms = terms_of(row[dim], addresses=lambda i: (address,))
        else:
            terms = terms_of(row[dim], self.scale, addresses=lambda i: (address, ""))
        total = float(row[dim] * self.scale)
        return Worked(
            terms=terms,
            total=total,
            expression=equation(total, terms),
            program="value = row[dim]" + ("" if self.scale == 1.0 else " * scale"),
            arrays={"row": row, "dim": dim, "scale": self.scale},
            steps=(("id" if axis == "word" else axis, float(row_number), source),),
        )

    def _rows(self, values: Values) -> Integers:
        if self.index is not None:
            return np.asarray(values.read(self.index), np.int64)
        assert self.like is not None, "how many positions?"
        return np.arange(len(values.read(self.like))) + self.offset


@dataclass(frozen=True)
class Sinusoid(Operation):
    """[sin | cos] of position / 10000^(2i/n) (Vaswani et al. 2017, 3.5); `like` is a site of the
    same shape.
    """

    kind = "sinusoid"
    like: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.like,)

    def compute(self, values: Values) -> Computed:
        like = values.read(self.like)
        positions, dim = np.arange(len(like)), like.shape[1]
        value = sinusoids(positions, dim)
        return Computed(value, np.abs(value) + positions[:, None] * _share(like.dtype))

    def cell(self, values: Values, at: Index) -> Worked:
        position, dim = at
        like = values.read(self.like)
        n = like.shape[1]
        wave = "sin" if dim < n // 2 else "cos"
        i = dim % (n // 2)
        angle = position / 10000.0 ** (2 * i / n)
        total = float(np.sin(angle) if wave == "sin" else np.cos(angle))
        return Worked(
            terms=terms_of(total, addresses=lambda i: ("",)),
            total=total,
            expression=f"{digits(total)} = {wave}({position} / 10000^(2 * {i} / {n}))",
            program=f"angle = position / 10000.0 ** (2 * i / n)\nvalue = np.{wave}(angle)",
            arrays={"position": position, "i": i, "n": n},
            steps=(("angle", angle, ""),),
            magnitude=abs(total) + position * _share(like.dtype),
        )


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
        _, queries, keys = values.read(self.like).shape
        distance = np.arange(keys) - np.arange(queries)[:, None]
        buckets = bucket(distance, self.relative, self.two_sided)
        looked_up = wide(values.weight(self.table))[buckets]  # (T, S, H)
        return Computed(np.moveaxis(looked_up, -1, 0), None)

    def cell(self, values: Values, at: Index) -> Worked:
        head, query, key = at
        distance = key - query
        row = int(bucket(distance, self.relative, self.two_sided))
        table = wide(values.weight(self.table))
        total = float(table[row, head])
        address = cell(self.table, ("bucket", row), ("head", head))
        return Worked(
            terms=terms_of(total, addresses=lambda i: (address,)),
            total=total,
            expression=f"{digits(total)} = table[bucket({distance}), {head}] = "
            f"table[{row}, {head}]",
            program="value = table[bucket, head]",
            arrays={"table": table, "bucket": row, "head": head},
            steps=(("distance", float(distance), ""), ("bucket", float(row), "")),
        )


def _share(dtype: np.dtype[np.floating]) -> float:
    """The rounding of float64 as a share of the engine's own: an angle is off by its size times the
    former, whatever type the engine computes in.
    """
    return float(np.finfo(np.float64).eps / np.finfo(dtype).eps)
