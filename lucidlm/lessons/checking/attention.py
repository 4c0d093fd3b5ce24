"""Softmax and attention, right or with mistakes.

A recipe takes what the reader's function takes, and `slips`: names of mistakes to make. Without any
it is the reference's own equations.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lucidlm.reference import equations
from lucidlm.reference.equations import Doubles, wide

Array = NDArray[Any]
Slips = Collection[str]
NONE: Slips = frozenset()

SOFTMAX = (
    "softmax_axis",
    "softmax_whole",
    "no_maximum",
    "sum_keepdims",
    "maximum_keepdims",
    "exponential_only",
)
ATTENTION = (
    "no_scale",
    "scale_by_d",
    "scale_upwards",
    "mask_after",
    "mask_zero",
    "mask_inverted",
    "mask_ignored",
    "mask_added",
    "mask_times_infinity",
    "mask_finite",
    "hidden_row",
    "transposed",
    "no_softmax",
    *SOFTMAX,
)
HEADS = (
    "split_order",
    "split_interleaved",
    "merge_order",
    "one_head",
    "scale_by_dim",
    "no_output",
    "weights_transposed",
    *(slip for slip in ATTENTION if slip not in ("mask_finite", "hidden_row")),
)
FAR = -1e9  # what "minus infinity" often is


def softmax(x: Array, *, slips: Slips = NONE) -> Doubles:
    """exp(x - m) / sum exp(x - m) over the last axis."""
    if not {"hidden_row", *SOFTMAX} & {*slips}:
        return equations.softmax(x)
    axis = None if "softmax_whole" in slips else 0 if "softmax_axis" in slips else -1
    bare = "no_maximum" in slips
    top = x.max(axis, keepdims="maximum_keepdims" not in slips)
    if "hidden_row" not in slips:
        top = np.where(np.isneginf(top), 0.0, top)
    exponentials: Doubles = np.exp(wide(x) - (0.0 if bare else top))
    if "exponential_only" in slips:
        return exponentials
    total = exponentials.sum(axis, keepdims="sum_keepdims" not in slips)
    if not bare and "hidden_row" not in slips:
        total = np.where(total == 0.0, 1.0, total)
    shares: Doubles = exponentials / total
    return shares


def attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, slips: Slips = NONE
) -> Doubles:
    """softmax(q k^T / sqrt(d)) v, hidden where the mask is True (Vaswani et al. 2017, eq. 1)"""
    scores = equations.products(q[None], k[None])[0]
    if "transposed" in slips:
        scores = scores.T
    scores = _hide(scores * _scale(q.shape[-1], slips), mask, slips)
    pattern: Doubles = scores if "no_softmax" in slips else softmax(scores, slips=slips)
    if mask is not None and "mask_after" in slips:
        pattern = np.where(mask, 0.0, pattern)
    return pattern @ wide(v)


def multi_head_attention(
    x: Array,
    w_q: Array,
    w_k: Array,
    w_v: Array,
    w_o: Array,
    heads: int,
    mask: Array | None = None,
    *,
    slips: Slips = NONE,
) -> Doubles:
    """Concat(head_1, ..., head_h) W^O, head_i = attention(x W^Q_i, x W^K_i, x W^V_i) (Vaswani et
    al. 2017, 3.2.2)
    """
    if "weights_transposed" in slips:
        w_q, w_k, w_v, w_o = w_q.T, w_k.T, w_v.T, w_o.T
    heads = 1 if "one_head" in slips else heads
    query, key, value = (_split(wide(x) @ wide(w), heads, slips) for w in (w_q, w_k, w_v))
    if "scale_by_dim" in slips:
        query = query / math.sqrt(heads)  # and by sqrt(d) as ever: sqrt(dim) in all
    mixed = np.stack(
        [attention(*each, mask, slips=slips) for each in zip(query, key, value, strict=True)]
    )
    if "merge_order" not in slips:
        mixed = mixed.swapaxes(0, 1)
    joined = mixed.reshape(len(x), -1)
    return joined if "no_output" in slips else joined @ wide(w_o)


def _split(x: Doubles, heads: int, slips: Slips) -> Doubles:
    """(T, heads * D) -> (heads, T, D)"""
    if "split_order" in slips:
        return x.reshape(heads, len(x), -1)
    if "split_interleaved" in slips:
        return np.moveaxis(x.reshape(len(x), -1, heads), -1, 0)
    return x.reshape(len(x), heads, -1).swapaxes(0, 1)


def _scale(d: int, slips: Slips) -> float:
    if "no_scale" in slips:
        return 1.0
    if "scale_by_d" in slips:
        return 1.0 / d
    return math.sqrt(d) if "scale_upwards" in slips else 1.0 / math.sqrt(d)


def _hide(scores: Doubles, mask: Array | None, slips: Slips) -> Doubles:
    if mask is None or {"mask_ignored", "mask_after"} & {*slips}:
        return scores
    if "mask_added" in slips:
        return scores + mask
    if "mask_times_infinity" in slips:
        return scores + mask * -np.inf
    hidden = ~mask if "mask_inverted" in slips else mask
    instead = 0.0 if "mask_zero" in slips else FAR if "mask_finite" in slips else -np.inf
    return np.where(hidden, instead, scores)
