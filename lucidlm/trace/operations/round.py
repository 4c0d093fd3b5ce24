"""What a vector becomes before it is multiplied with weights of few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lucidlm.engine import Rounding
from lucidlm.reference.equations import wide
from lucidlm.trace.numbers import digits
from lucidlm.trace.operations.base import Array, Computed, Index, Operation, Values, Worked
from lucidlm.trace.operations.working import terms_of, vector_cell

GROUP = 32  # numbers that share a scale


@dataclass(frozen=True)
class Round(Operation):
    """scale * x, rounded. In float32 all the way, as the engine does it: the result is what was
    multiplied, bit for bit.

    int8: of each 32 numbers side by side the largest |x| becomes 127, and every other the nearest
    whole number, ties to even. bfloat16: the nearest, ties to even.
    """

    kind = "round"
    source: str
    to: Rounding
    scale: float = 1.0

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.source,)

    def compute(self, values: Values) -> Computed:
        x = self._read(values.read(self.source))
        rows = x.reshape(len(x), -1)
        if self.to == "bfloat16":
            found = wide(to_bfloat16(rows))
        else:
            whole, scales = to_int8(rows)
            found = whole * wide(np.repeat(scales, GROUP, axis=1)[:, : rows.shape[1]])
        return Computed(found.reshape(x.shape), None)

    def cell(self, values: Values, at: Index) -> Worked:
        whole = values.read(self.source)[at[0]]
        row = self._read(whole).ravel()
        place = int(np.ravel_multi_index(at[1:], whole.shape))
        x = float(row[place])

        def address(i: int) -> str:
            return vector_cell(self.source, (at[0], *map(int, np.unravel_index(i, whole.shape))))

        arrays: dict[str, Any]
        if self.to == "bfloat16":
            total = float(to_bfloat16(row[None])[0, place])
            expression = f"{digits(total)} = bfloat16({digits(x)})"
            terms = terms_of(total, addresses=lambda i: (address(place),))
            return Worked(
                terms=terms,
                total=total,
                expression=expression,
                program=_TO_BFLOAT16,
                arrays={"x": np.float32(x)},
            )
        numbers, scales = to_int8(row[None])
        first = place // GROUP * GROUP
        group = row[first : first + GROUP]
        number, scale = float(numbers[0, place]), float(scales[0, place // GROUP])
        total = number * scale
        largest = first + int(np.argmax(np.abs(group)))
        arrays = {"group": group, "at": place - first}
        return Worked(
            terms=terms_of(number, scale, addresses=lambda i: (address(place), "")),
            total=total,
            expression=f"{digits(total)} = {digits(number)} * {digits(scale)}",
            program=_TO_INT8,
            arrays=arrays,
            steps=(
                ("x", x, address(place)),
                ("largest", float(np.abs(group).max()), address(largest)),
                ("scale", scale, ""),
                ("number", number, ""),
            ),
        )

    def _read(self, x: Array) -> NDArray[np.float32]:
        return np.asarray(x, np.float32) * np.float32(self.scale)


_TO_INT8 = """largest = np.abs(group).max()
scale = largest / np.float32(127)
number = np.rint(group[at] * (np.float32(127) / largest)) if largest else 0.0
value = float(number) * float(scale)"""
_TO_BFLOAT16 = """bits = np.float32(x).view(np.uint32)
bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
value = float(np.uint32(bits).view(np.float32))"""


def to_bfloat16(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest numbers whose lower half of bits is 0, ties to even; what is not finite stays."""
    bits = x.view(np.uint32)
    near = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(x), near.view(np.float32), x)


def to_int8(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(rows, n) as whole numbers, (rows, n), and a scale for each 32, (rows, groups)."""
    count, n = rows.shape
    padded = np.pad(rows, ((0, 0), (0, -n % GROUP))).reshape(count, -1, GROUP)
    largest = np.abs(padded).max(axis=2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
    numbers = np.rint(padded * inverse).reshape(count, -1)[:, :n]
    return wide(numbers), (largest / np.float32(127))[:, :, 0]
