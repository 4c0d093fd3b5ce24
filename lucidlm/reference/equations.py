"""The equations of a Transformer in float64 NumPy, each by itself: plain arrays in, an array out.

T positions that ask, S that are seen, H heads of D dimensions. Arrays of any floating type may go
in; what comes out is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lucidlm.config import Activation, MaskKind, RelativeBias, Rope

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Numbers = NDArray[np.floating[Any]]

WIDENED = 1 << 17  # values of a matrix at a time: in float64 they fit into a processor's cache


def wide(x: ArrayLike) -> Doubles:
    """x in float64, which holds every narrower float exactly."""
    return np.asarray(x, np.float64)


def linear(x: Numbers, weight: Numbers, bias: Numbers | None = None) -> Doubles:
    """y[..., o] = sum_i x[..., i] W[o, i] + b[o]"""
    x, y = wide(x), np.empty((*x.shape[:-1], len(weight)))
    for rows in blocks(weight):
        y[..., rows] = x @ wide(weight[rows]).T
    return y if bias is None else y + wide(bias)


def blocks(weight: Numbers) -> Iterator[slice]:
    """Rows of a matrix to widen together: a vocabulary's is large."""
    count = max(1, WIDENED // weight.shape[1])
    return (slice(start, start + count) for start in range(0, len(weight), count))


def mean(x: Numbers) -> Doubles:
    """mu[...] = sum_i x[..., i] / n (Ba et al. 2016, eq. 3)"""
    mu: Doubles = wide(x).sum(-1) / x.shape[-1]
    return mu


def deviation(x: Numbers, mean: Numbers | None, eps: float) -> Doubles:
    """s[...] = sqrt(sum_i (x[..., i] - mu[...])^2 / n + eps): LayerNorm's (Ba et al. 2016, eq. 3).

    Without a mean it is the root mean square of RMSNorm (Zhang & Sennrich 2019, eq. 4).
    """
    centred = wide(x) if mean is None else wide(x) - wide(mean)[..., None]
    s: Doubles = np.sqrt(np.square(centred).sum(-1) / x.shape[-1] + eps)
    return s


def normalize(x: Numbers, mean: Numbers | None, scale: Numbers) -> Doubles:
    """(x[..., i] - mu[...]) / s[...], without a mean x[..., i] / s[...]"""
    centred = wide(x) if mean is None else wide(x) - wide(mean)[..., None]
    return centred / wide(scale)[..., None]


def gain(normalized: Numbers, weight: Numbers, bias: Numbers | None, offset: float) -> Doubles:
    """y[..., i] = normalized[..., i] (w[i] + offset) + b[i]"""
    y = wide(normalized) * (wide(weight) + offset)
    return y if bias is None else y + wide(bias)


def frequencies(rope: Rope, head_dim: int) -> Doubles:
    """(D/2,) f[i] = base^(-2i/D), radians a position (Su et al. 2021, eq. 15), scaled as `rope`
    says.

    "llama3" mixes f and f / factor (Llama 3's release): by how many turns a pair makes within the
    original context, all f from `high_factor` turns on, all f / factor up to `low_factor`.
    """
    f: Doubles = np.power(float(rope.base), -2.0 * np.arange(head_dim // 2) / head_dim)
    if rope.scaling == "none":
        return f
    if rope.scaling == "linear":
        return f / rope.factor
    turns = rope.original_positions * f / math.tau
    share = np.clip((turns - rope.low_factor) / (rope.high_factor - rope.low_factor), 0.0, 1.0)
    return f * (share + (1.0 - share) / rope.factor)


def rotate(x: Numbers, positions: ArrayLike, rope: Rope) -> Doubles:
    """x (T, H, D) with each pair (x[i], x[i + D/2]) turned by the angle p f[i] (Su et al. 2021,
    eq. 13).

    As complex numbers: (x[i] + j x[i + D/2]) exp(j p f[i]).
    """
    half = x.shape[-1] // 2
    angles = np.multiply.outer(wide(positions), frequencies(rope, x.shape[-1]))[:, None]
    turned = (wide(x[..., :half]) + 1j * wide(x[..., half:])) * np.exp(1j * angles)
    return np.concatenate((turned.real, turned.imag), axis=-1)


def sinusoids(positions: ArrayLike, dim: int) -> Doubles:
    """(T, dim) with sin(p / 10000^(2i/dim)) in column i and the cosine in column i + dim/2 (Vaswani
    et al. 2017, 3.5, the columns ordered as in their code).
    """
    waves = np.power(10000.0, 2.0 * np.arange(dim // 2) / dim)
    angles = np.divide.outer(wide(positions), waves)
    return np.concatenate((np.sin(angles), np.cos(angles)), axis=-1)


def bucket(distance: ArrayLike, relative: RelativeBias, two_sided: bool) -> Integers:
    """Row of T5's bias table by distance, key - query (Raffel et al. 2020, 2.1).

    The first half of the buckets hold one distance each; the rest grow geometrically up to
    `max_distance`, and everything farther is in the last. `two_sided` splits the table between
    earlier and later keys; otherwise all later keys are in bucket 0.
    """
    distance = np.asarray(distance, np.int64)
    size = relative.buckets // 2 if two_sided else relative.buckets
    away = np.abs(distance) if two_sided else np.maximum(-distance, 0)
    single = size // 2
    # float32, as in training: its rounding decides which bucket a boundary distance falls in
    octaves = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(single))
    octaves /= np.float32(math.log(relative.max_distance / single))
    shared = single + (octaves * np.float32(size - single)).astype(np.int64)
    place = np.where(away < single, away, np.minimum(shared, size - 1))
    rows: Integers = place + size * (distance > 0) if two_sided else place
    return rows


def hidden(
    mask: MaskKind, queries: ArrayLike, keys: ArrayLike, window: int | None = None
) -> NDArray[np.bool_]:
    """(T, S) True where the query at position p may not see the key at position s: with "causal"
    where s > p, with "strict" where s >= p, and beyond the last `window` positions where s <= p -
    window.
    """
    ahead = np.subtract.outer(np.asarray(queries), np.asarray(keys))  # p - s
    least = {"full": None, "causal": 0, "strict": 1}[mask]
    unseen = np.zeros(ahead.shape, bool) if least is None else ahead < least
    return unseen if window is None else unseen | (ahead >= window)


def softmax(scores: Numbers) -> Doubles:
    """exp(x[s] - m) / sum_t exp(x[t] - m) over the last axis, m the largest (Vaswani et al. 2017,
    eq. 1); zeros where every score is -inf.
    """
    scores = wide(scores)
    highest = scores.max(-1, keepdims=True)
    exponentials = np.exp(scores - np.where(highest == -np.inf, 0.0, highest))
    total = exponentials.sum(-1, keepdims=True)
    return exponentials / np.where(total == 0.0, 1.0, total)


def products(query: Numbers, key: Numbers) -> Doubles:
    """(H, T, S) query[h, t] . key[g(h), s] from (H, T, D) and (KV, S, D); neighbouring query heads
    share a key head, g(h) = h // (H / KV) (Ainslie et al. 2023).
    """
    return wide(query) @ _shared(key, len(query)).swapaxes(-1, -2)


def weighted_sum(pattern: Numbers, value: Numbers) -> Doubles:
    """(H, T, D) sum_s pattern[h, t, s] value[g(h), s] from (H, T, S) and (KV, S, D)"""
    return wide(pattern) @ _shared(value, len(pattern))


def _shared(x: Numbers, heads: int) -> Doubles:
    """(KV, S, D) -> (H, S, D), each head once for every query head that reads it."""
    return np.repeat(wide(x), heads // len(x), axis=0)


def activation(name: Activation) -> Callable[[Numbers], Doubles]:
    """The function f of one number that a config calls `name`, for arrays."""
    return {
        "relu": _relu,
        "gelu": _gelu,
        "gelu_tanh": _gelu_tanh,
        "silu": _silu,
        "sigmoid": _sigmoid,
        "tanh": _tanh,
    }[name]


def _relu(x: Numbers) -> Doubles:
    return np.maximum(wide(x), 0.0)


def _gelu(x: Numbers) -> Doubles:
    """x Phi(x), Phi(x) = erfc(-x / sqrt(2)) / 2 (Hendrycks & Gimpel 2016): exact far out, too."""
    return wide(x) * wide(_erfc(wide(x) / -math.sqrt(2.0))) / 2.0


def _gelu_tanh(x: Numbers) -> Doubles:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks & Gimpel 2016, 2)"""
    x = wide(x)
    return x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))) / 2.0


def _silu(x: Numbers) -> Doubles:
    return wide(x) * _sigmoid(x)


def _sigmoid(x: Numbers) -> Doubles:
    """1 / (1 + exp(-x)), written so that no exponential overflows"""
    small = np.exp(-np.abs(wide(x)))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _tanh(x: Numbers) -> Doubles:
    return np.tanh(wide(x))


_erfc = np.frompyfunc(math.erfc, 1, 1)  # NumPy has none of its own
