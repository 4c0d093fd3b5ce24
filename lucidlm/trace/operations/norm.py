"""The steps of LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019), over the last axis.

A step reads the mean and the scale that the engine recorded, so its rounding is that of a
difference, a quotient, a product: small beside the value itself, even where the mean takes almost
all of x away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lucidlm.reference.equations import deviation, gain, mean, normalize, wide
from lucidlm.trace.numbers import digits, operand
from lucidlm.trace.operations.base import Computed, Index, Operation, Values, Worked, cell
from lucidlm.trace.operations.working import (
    equation,
    sum_of,
    terms_of,
    vector_cell,
)

Step = tuple[str, float, str]


@dataclass(frozen=True)
class Mean(Operation):
    """sum(x) / n"""

    kind = "mean"
    source: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def compute(self, values: Values) -> Computed:
        x = values.read(self.source)
        return Computed(mean(x), mean(np.abs(x)))

    def cell(self, values: Values, at: Index) -> Worked:
        x = wide(values.read(self.source)[at])
        n, total = len(x), float(x.sum() / len(x))
        terms = terms_of(x, 1 / n, addresses=lambda i: (vector_cell(self.source, (*at, i)), ""))
        return Worked(
            terms=terms,
            total=total,
            expression=f"{digits(total)} = ({sum_of(x, lambda i: operand(x[i]))}) / {n}",
            program="value = x.sum() / len(x)",
            arrays={"x": x},
            steps=(("sum", float(x.sum()), ""), ("n", float(n), "")),
        )


@dataclass(frozen=True)
class Deviation(Operation):
    """sqrt(sum((x - mean)^2) / n + eps); without a mean (RMSNorm) of x itself.

    Its cell's terms are the squares' shares of the mean square. A factor x - mean has the address
    of x.
    """

    kind = "scale"
    source: str
    mean: str | None
    eps: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.source, self.mean) if name)

    def compute(self, values: Values) -> Computed:
        means = None if self.mean is None else values.read(self.mean)
        value = deviation(values.read(self.source), means, self.eps)
        return Computed(value, value)

    def cell(self, values: Values, at: Index) -> Worked:
        x, means = wide(values.read(self.source)[at]), _recorded(values, "mean", self.mean, at)
        shift = sum(value for _, value, _ in means)
        centred, n = x - shift, len(x)
        square = float((centred**2).sum() / n)
        total = float(np.sqrt(square + self.eps))

        def addresses(i: int) -> tuple[str, ...]:
            return (vector_cell(self.source, (*at, i)),) * 2 + ("",)

        def write(i: int) -> str:
            less = f"({digits(x[i])} - {operand(shift)})" if means else operand(x[i])
            return f"{less}^2"

        return Worked(
            terms=terms_of(centred, centred, 1 / n, addresses=addresses),
            total=total,
            expression=f"{digits(total)} = sqrt(({sum_of(centred, write)}) / {n} + {self.eps:g})",
            program=("centred = x - mean\n" if means else "centred = x\n")
            + "value = np.sqrt((centred**2).sum() / len(x) + eps)",
            arrays={"x": x, "eps": self.eps, **_arrays(means)},
            steps=(*means, ("n", float(n), ""), ("mean_square", square, ""), ("eps", self.eps, "")),
            note=("trace.terms_under_root", {"eps": f"{self.eps:g}"}),
            magnitude=total,
        )


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
        means = None if self.mean is None else values.read(self.mean)
        value = normalize(values.read(self.source), means, values.read(self.scale))
        return Computed(value, np.abs(value))

    def cell(self, values: Values, at: Index) -> Worked:
        x = float(values.read(self.source)[at])
        means = _recorded(values, "mean", self.mean, at[:-1])
        scales = _recorded(values, "scale", self.scale, at[:-1])
        shift, scale = sum(value for _, value, _ in means), scales[0][1]
        total = (x - shift) / scale
        sources = (vector_cell(self.source, at), *(address for *_, address in means))
        operands, signs = [x, *(value for _, value, _ in means)], [1.0, -1.0][: len(sources)]
        less = f"({digits(x)} - {operand(shift)})" if means else digits(x)
        return Worked(
            terms=terms_of(operands, np.divide(signs, scale), addresses=lambda i: (sources[i], "")),
            total=total,
            expression=f"{digits(total)} = {less} / {operand(scale)}",
            program="value = (x - mean) / scale" if means else "value = x / scale",
            arrays={"x": x, **_arrays(means), **_arrays(scales)},
            steps=(*means, *scales),
            magnitude=abs(total),
        )


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
        bias = None if self.bias is None else values.weight(self.bias)
        x, weight = values.read(self.source), values.weight(self.weight)
        value, scaled = gain(x, weight, bias, self.offset), gain(x, weight, None, self.offset)
        return Computed(value, np.abs(scaled) + (0.0 if bias is None else np.abs(wide(bias))))

    def cell(self, values: Values, at: Index) -> Worked:
        dim, x = at[-1], float(values.read(self.source)[at])
        read, gained = vector_cell(self.source, at), cell(self.weight, ("dim", dim))
        weight = float(values.weight(self.weight)[dim])
        # x (w + offset) + b as terms: x w, x offset, b 1
        left, right, names = [x], [weight], [(read, gained)]
        total, program = x * (weight + self.offset), "value = x * weight"
        magnitude = abs(total)
        arrays = {"x": x, "weight": weight}
        if self.offset:
            left, right, names = [*left, x], [*right, self.offset], [*names, (read, "")]
            program, arrays["offset"] = "value = x * (weight + offset)", self.offset
        if self.bias is not None:
            bias = float(values.weight(self.bias)[dim])
            left, right = [*left, bias], [*right, 1.0]
            names.append((cell(self.bias, ("dim", dim)), ""))
            total, program, arrays["bias"] = total + bias, f"{program} + bias", bias
            magnitude += abs(bias)
        terms = terms_of(left, right, addresses=lambda i: names[i])
        return Worked(
            terms=terms,
            total=total,
            expression=equation(total, terms),
            program=program,
            arrays=arrays,
            magnitude=magnitude,
        )


def _recorded(values: Values, name: str, site: str | None, at: Index) -> tuple[Step, ...]:
    """The recorded mean or scale at `at` as a step on the way; none where there is no such site."""
    if site is None:
        return ()
    address = cell(site, *zip(("position", "head"), at, strict=False))
    return ((name, float(values.read(site)[at]), address),)


def _arrays(steps: tuple[Step, ...]) -> dict[str, Any]:
    return {name: value for name, value, _ in steps}
