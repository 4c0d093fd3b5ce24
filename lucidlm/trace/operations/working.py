"""What the operations share when they take a cell apart: its terms, its equation in numbers, and
the addresses of what it was read from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from lucidlm.reference.equations import wide
from lucidlm.trace.numbers import digits, operand
from lucidlm.trace.operations.base import Doubles, Index, Terms, cell
from lucidlm.trace.rows import HEADS, HIDDEN, VECTOR, Axes

FEW = 4  # terms that are written out
_WIDE_NOUNS = ("gate", "up", "activated", "product", "rounded_inner")


def vector_axes(address: str, dimensions: int) -> Axes:
    """The axes of a site of vectors: one a position, one a head, or (the pooler's) one in all."""
    if dimensions == 3:
        return HEADS
    if dimensions == 1:
        return VECTOR[1:]
    module, _, noun = address.rpartition(".")
    is_wide = module.endswith("feedforward") and noun.removesuffix("_bfloat16") in _WIDE_NOUNS
    return HIDDEN if is_wide else VECTOR


def vector_cell(address: str, at: Index) -> str:
    """The address of the cell `at` of a site of vectors."""
    return cell(address, *zip(vector_axes(address, len(at)), at, strict=True))


def terms_of(*factors: ArrayLike, addresses: Callable[[int], tuple[str, ...]]) -> Terms:
    """Terms from their factors, each (n,) or one number for all of them."""
    wide_factors = tuple(
        map(np.array, np.broadcast_arrays(*map(wide, map(np.atleast_1d, factors))))
    )
    values: Doubles = np.prod(wide_factors, axis=0)
    return Terms(values=values, factors=wide_factors, addresses=addresses)


def sum_of(values: Doubles, write: Callable[[int], str]) -> str:
    """The largest of `values` as `write(i)` spells them, and how many more there are."""
    order = np.argsort(-np.abs(values), kind="stable")
    shown = [write(int(i)) for i in order[:FEW]]
    if len(values) > FEW:
        shown.append(f"… (+{len(values) - FEW})")
    return " + ".join(shown)


def equation(total: float, terms: Terms) -> str:
    """ "0.41 = 1.93 * 0.2 + 0.5 * (-0.3) + … (+573)"."""

    def write(i: int) -> str:
        named = zip(terms.addresses(i), terms.factors, strict=True)
        return " * ".join(operand(f[i]) for address, f in named if address or f[i] != 1.0)

    return f"{digits(total)} = {sum_of(terms.values, write)}"
