"""Looking up words and telling positions apart, right or with mistakes: see `attention`.

Two ways to pair dimensions are both right, here and in the published models: neighbours (2i, 2i +
1), and halves (i, i + D/2). The slip "halves" chooses the second.
"""

from __future__ import annotations

import numpy as np

from lucidlm.config import Rope
from lucidlm.lessons.checking.attention import NONE, Array, Slips
from lucidlm.reference import equations
from lucidlm.reference.equations import Doubles, wide

WAVES = ("exponent_half", "exponent_double", "exponent_own")
ENCODING = (*WAVES, "sine_cosine", "from_one", "multiplied")
ROTATION = (
    *WAVES,
    "turned_back",
    "both_plus",
    "both_minus",
    "pairs_mixed",
    "positions_ignored",
    "base_ignored",
)
EMBEDDING = ("columns", "ids_from_one", "scaled")
BASE = 10000.0


def embed(ids: Array, table: Array, *, slips: Slips = NONE) -> Doubles:
    """table[id] for each id."""
    if "columns" in slips:
        return wide(table)[:, ids]
    rows: Doubles = wide(table)[np.asarray(ids) - int("ids_from_one" in slips)]
    return rows * np.sqrt(table.shape[-1]) if "scaled" in slips else rows


def positional_encoding(length: int, dim: int, *, slips: Slips = NONE) -> Doubles:
    """Sine and cosine of p / 10000^(2i/dim), columns by pairs (Vaswani et al. 2017, 3.5)"""
    halves = "halves" in slips
    if not {*ENCODING} & {*slips}:
        waves = equations.sinusoids(np.arange(length), dim)
        return waves if halves else _interleaved(waves)
    positions = np.arange(length) + int("from_one" in slips)
    exponents = _exponents(dim, halves, slips)
    sign = 1.0 if "multiplied" in slips else -1.0
    angles = np.multiply.outer(wide(positions), BASE ** (sign * exponents))
    second = _second(dim, halves)
    if "sine_cosine" in slips:
        second = ~second
    return np.where(second, np.cos(angles), np.sin(angles))


def rotate(x: Array, positions: Array, base: float, *, slips: Slips = NONE) -> Doubles:
    """Each pair of columns turned by the angle p base^(-2i/D) (Su et al. 2021, eq. 13)"""
    halves, dim = "halves" in slips, x.shape[-1]
    if "base_ignored" in slips:
        base = BASE
    if "positions_ignored" in slips:
        positions = np.arange(len(x))
    if not {*ROTATION} & {*slips}:
        order = np.arange(dim) if halves else _interleaved(np.arange(dim)[None])[0].argsort()
        turned = equations.rotate(x[:, None, order], positions, Rope(base=base))[:, 0]
        return turned if halves else _interleaved(turned)
    exponents = _exponents(dim, halves ^ ("pairs_mixed" in slips), slips)
    angles = np.multiply.outer(wide(positions), base**-exponents)
    second = _second(dim, halves)
    partner = np.roll(x, dim // 2, -1) if halves else _neighbours(x)
    signs = np.where(second, 1.0, -1.0)
    if "turned_back" in slips:
        signs = -signs
    if "both_plus" in slips:
        signs = np.abs(signs)
    if "both_minus" in slips:
        signs = -np.abs(signs)
    return wide(x) * np.cos(angles) + wide(partner) * signs * np.sin(angles)


def _exponents(dim: int, halves: bool, slips: Slips) -> Doubles:
    """The power of the base by column: 2i/dim for both columns of pair i."""
    columns = wide(np.arange(dim))
    pairs = columns % (dim // 2) if halves else columns // 2
    doubled = columns if "exponent_own" in slips else 2.0 * pairs
    factor = 0.5 if "exponent_half" in slips else 2.0 if "exponent_double" in slips else 1.0
    return factor * doubled / dim


def _second(dim: int, halves: bool) -> Array:
    """Which columns are the second of their pair."""
    columns = np.arange(dim)
    return columns >= dim // 2 if halves else columns % 2 == 1


def _interleaved(x: Array) -> Doubles:
    """[a | b] -> a_0, b_0, a_1, b_1, ..."""
    return np.stack(np.split(x, 2, axis=-1), axis=-1).reshape(x.shape)


def _neighbours(x: Array) -> Array:
    """Each pair of neighbouring columns changed round."""
    return x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
