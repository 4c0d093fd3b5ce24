"""Cell by cell: copy, add, multiply, and functions of one number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lucidlm.config import Activation
from lucidlm.reference.equations import activation, wide
from lucidlm.trace.numbers import digits, operand
from lucidlm.trace.operations.base import Computed, Doubles, Index, Operation, Values, Worked
from lucidlm.trace.operations.working import equation, terms_of, vector_cell


@dataclass(frozen=True)
class Copy(Operation):
    """The same value under another name."""

    kind = "copy"
    source: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def compute(self, values: Values) -> Computed:
        return Computed(wide(values.read(self.source)), None)

    def cell(self, values: Values, at: Index) -> Worked:
        x = float(values.read(self.source)[at])
        return Worked(
            terms=terms_of(x, addresses=lambda i: (vector_cell(self.source, at),)),
            total=x,
            expression=f"{digits(x)} = {digits(x)}",
            program="value = x",
            arrays={"x": x},
        )


@dataclass(frozen=True)
class Add(Operation):
    """The sum of sites of one shape."""

    kind = "add"
    sources: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.sources

    def compute(self, values: Values) -> Computed:
        x = np.stack([wide(values.read(source)) for source in self.sources])
        return Computed(x.sum(axis=0), np.abs(x).sum(axis=0) if len(x) > 2 else None)

    def cell(self, values: Values, at: Index) -> Worked:
        x = wide([values.read(source)[at] for source in self.sources])
        terms = terms_of(x, addresses=lambda i: (vector_cell(self.sources[i], at),))
        total = float(x.sum())
        return Worked(
            terms=terms,
            total=total,
            expression=equation(total, terms),
            program="value = x.sum()",
            arrays={"x": x},
        )


@dataclass(frozen=True)
class Multiply(Operation):
    """The product of two sites."""

    kind = "multiply"
    left: str
    right: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.left, self.right)

    def compute(self, values: Values) -> Computed:
        return Computed(wide(values.read(self.left)) * wide(values.read(self.right)), None)

    def cell(self, values: Values, at: Index) -> Worked:
        left, right = (float(values.read(source)[at]) for source in self.inputs)
        addresses = tuple(vector_cell(source, at) for source in self.inputs)
        terms = terms_of(left, right, addresses=lambda i: addresses)
        return Worked(
            terms=terms,
            total=left * right,
            expression=equation(left * right, terms),
            program="value = left * right",
            arrays={"left": left, "right": right},
        )


# Of each activation: the formula with its number in it, and as a program. 1 + erf(z) = erfc(-z),
# which does not cancel.
FORMULAS: dict[Activation, tuple[str, str]] = {
    "relu": ("max(0, {x})", "value = np.maximum(0.0, x)"),
    "gelu": (
        "{x} * (1 + erf({x} / sqrt(2))) / 2",
        "import math\nvalue = x * math.erfc(-x / math.sqrt(2)) / 2",
    ),
    "gelu_tanh": (
        "{x} * (1 + tanh(sqrt(2 / pi) * ({x} + 0.044715 * {x}^3))) / 2",
        "z = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)\nvalue = x * (1 + np.tanh(z)) / 2",
    ),
    "silu": ("{x} / (1 + exp(-{x}))", "value = x / (1 + np.exp(-x))"),
    "sigmoid": ("1 / (1 + exp(-{x}))", "value = 1 / (1 + np.exp(-x))"),
    "tanh": ("tanh({x})", "value = np.tanh(x)"),
}


@dataclass(frozen=True)
class Unary(Operation):
    """An activation."""

    kind = "unary"
    source: str
    function: Activation

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def compute(self, values: Values) -> Computed:
        x = wide(values.read(self.source))
        value = activation(self.function)(x)
        return Computed(value, None if self.function == "relu" else self._magnitude(x, value))

    def cell(self, values: Values, at: Index) -> Worked:
        x = float(values.read(self.source)[at])
        total = float(activation(self.function)(wide(x)))
        formula, program = FORMULAS[self.function]
        return Worked(
            terms=terms_of(x, addresses=lambda i: (vector_cell(self.source, at),)),
            total=total,
            expression=f"{digits(total)} = {formula.format(x=operand(x))}",
            program=program,
            arrays={"x": x},
            note=("trace.term_of_function", {}),
            magnitude=float(self._magnitude(wide(x), wide(total))),
        )

    def _magnitude(self, x: Doubles, value: Doubles) -> Doubles:
        # x (1 + erf ...): left of 0 the sum cancels, and its rounding is multiplied by x
        return np.abs(x if self.function in ("gelu", "gelu_tanh") else value)
