"""Products with a learned matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lucidlm.reference.equations import blocks, wide
from lucidlm.trace.operations.base import (
    Array,
    Computed,
    Doubles,
    Index,
    Operation,
    Values,
    Worked,
    cell,
)
from lucidlm.trace.operations.working import equation, terms_of, vector_cell


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
        x = wide(values.read(self.source))
        if self.joins:
            x = x.reshape(len(x), -1)
        value, magnitude = _product(x[0] if self.first_only else x, values.weight(self.weight))
        value *= self.scale
        magnitude *= abs(self.scale)
        if self.bias is not None:
            bias = wide(values.weight(self.bias))
            value += bias
            magnitude += np.abs(bias)
        if self.head_dim is not None:
            value, magnitude = (a.reshape(len(x), -1, self.head_dim) for a in (value, magnitude))
        return Computed(value, magnitude)

    def cell(self, values: Values, at: Index) -> Worked:
        position = 0 if self.first_only else at[0]
        out = at[-1] if self.head_dim is None else at[1] * self.head_dim + at[2]
        whole = values.read(self.source)[position]
        x, w = wide(whole).ravel(), wide(values.weight(self.weight)[out])
        # the bias is a term like the others: itself times 1
        b = [] if self.bias is None else [float(values.weight(self.bias)[out])]
        scale = np.append(np.full(len(x), self.scale), np.ones(len(b)))
        axes = ("word", "dim") if _is_table(self.weight) else ("out", "in")

        def addresses(i: int) -> tuple[str, ...]:
            if i == len(x):
                assert self.bias is not None
                return (cell(self.bias, ("out", out)), "", "")
            read = (position, *map(int, np.unravel_index(i, whole.shape)))
            weight = cell(self.weight, (axes[0], out), (axes[1], i))
            return (vector_cell(self.source, read), weight, "")

        terms = terms_of(np.append(x, b), np.append(w, np.ones(len(b))), scale, addresses=addresses)
        arrays: dict[str, Any] = {"x": x, "w": w}
        total, program = float(x @ w), "value = x @ w"
        if self.scale != 1.0:
            total, program = self.scale * total, "value = scale * (x @ w)"
            arrays["scale"] = self.scale
        if b:
            total, program = total + b[0], f"{program} + b"
            arrays["b"] = b[0]
        return Worked(
            terms=terms,
            total=total,
            expression=equation(total, terms),
            program=program,
            arrays=arrays,
        )


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
        x, weight = wide(values.read(self.source)), values.weight(self.weight)
        heads, size = x.shape[1:]
        value = np.empty((*x.shape[:2], len(weight)))
        magnitude = np.empty_like(value)
        for head in range(heads):
            columns = weight[:, head * size : (head + 1) * size]
            value[:, head], magnitude[:, head] = _product(x[:, head], columns)
        return Computed(value, magnitude)

    def cell(self, values: Values, at: Index) -> Worked:
        position, head, out = at
        x = wide(values.read(self.source)[position, head])
        first = head * len(x)
        w = wide(values.weight(self.weight)[out, first : first + len(x)])
        terms = terms_of(
            x,
            w,
            addresses=lambda i: (
                vector_cell(self.source, (position, head, i)),
                cell(self.weight, ("out", out), ("in", first + i)),
            ),
        )
        total = float(x @ w)
        return Worked(
            terms=terms,
            total=total,
            expression=equation(total, terms),
            program="value = x @ w",
            arrays={"x": x, "w": w},
        )


def _product(x: Doubles, weight: Array) -> tuple[Doubles, Doubles]:
    """x (..., n), weight (m, n) -> x W^T and |x| |W|^T, (..., m). The weight is widened a block at
    a time, which stays in the processor's cache for both.
    """
    value = np.empty((*x.shape[:-1], len(weight)))
    magnitude, sizes = np.empty_like(value), np.abs(x)
    for rows in blocks(weight):
        block = np.array(weight[rows], np.float64)  # a copy, even of float64
        value[..., rows] = x @ block.T
        magnitude[..., rows] = sizes @ np.abs(block, out=block).T
    return value, magnitude


def _is_table(weight: str) -> bool:
    """Whether the matrix has a row for each word."""
    return weight == "head.weight" or weight.endswith("embedding.tokens.weight")
