"""Norms, feed-forward networks and a whole layer, right or with mistakes: see `attention`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lucidlm.config import Activation
from lucidlm.lessons.checking.attention import (
    HEADS,
    NONE,
    Array,
    Slips,
    multi_head_attention,
)
from lucidlm.reference import equations
from lucidlm.reference.equations import Doubles, wide

NORM = ("norm_axis", "norm_whole", "eps_outside", "eps_forgotten", "no_root", "no_weight")
LAYER_NORM = ("ddof", "not_centred", "no_bias", *NORM)
RMS_NORM = ("centred", "sum_of_squares", "weight_plus_one", *NORM)
FEED_FORWARD = (
    "no_activation",
    "activation_late",
    "gelu",
    "gelu_tanh",
    "silu",
    "no_up_bias",
    "no_down_bias",
    "weights_transposed",
)
GATED = (
    "gate_gelu",
    "gate_gelu_tanh",
    "gate_relu",
    "gate_sigmoid",
    "gate_swapped",
    "gate_bare",
    "gate_added",
)
LAYER = (
    "pre_norm",
    "norm_before_add",
    "no_residual",
    "no_attention_residual",
    "no_feed_forward_residual",
    "residual_of_input",
    "no_attention_norm",
    "no_feed_forward_norm",
    "norms_swapped",
    "mask_diagonal",
    *(slip for slip in (*HEADS, *FEED_FORWARD) if slip != "weights_transposed"),
    *(slip for slip in LAYER_NORM if slip != "eps_forgotten"),
)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float, *, slips: Slips = NONE) -> Doubles:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis (Ba et al. 2016)"""
    if not {*LAYER_NORM} & {*slips}:
        mean = equations.mean(x)
        scale = equations.deviation(x, mean, eps)
        return equations.gain(equations.normalize(x, mean, scale), weight, bias, 0.0)
    axis = _axis(slips)
    centred = wide(x) - wide(x).mean(axis, keepdims=True)
    variance = wide(x).var(axis, keepdims=True, ddof=int("ddof" in slips))
    y: Doubles = (wide(x) if "not_centred" in slips else centred) / _root(variance, eps, slips)
    y = y if "no_weight" in slips else y * wide(weight)
    return y if "no_bias" in slips else y + wide(bias)


def rms_norm(x: Array, weight: Array, eps: float, *, slips: Slips = NONE) -> Doubles:
    """x / sqrt(mean of x^2 + eps) * weight over the last axis (Zhang & Sennrich 2019)"""
    if not slips:
        scale = equations.deviation(x, None, eps)
        return equations.gain(equations.normalize(x, None, scale), weight, None, 0.0)
    axis, x = _axis(slips), wide(x)
    if "centred" in slips:
        x = x - x.mean(axis, keepdims=True)
    add_up = np.sum if "sum_of_squares" in slips else np.mean
    y: Doubles = x / _root(add_up(x**2, axis=axis, keepdims=True), eps, slips)
    if "no_weight" in slips:
        return y
    return y * (wide(weight) + (1.0 if "weight_plus_one" in slips else 0.0))


def feed_forward(
    x: Array, w_up: Array, b_up: Array, w_down: Array, b_down: Array, *, slips: Slips = NONE
) -> Doubles:
    """max(0, x W_1 + b_1) W_2 + b_2 (Vaswani et al. 2017, eq. 2)"""
    if "weights_transposed" in slips:
        w_up, w_down = w_up.T, w_down.T
    late = "activation_late" in slips
    bend = wide if "no_activation" in slips else _activation("", "relu", slips)
    up = wide(x) @ wide(w_up)
    up = up if "no_up_bias" in slips else up + wide(b_up)
    down: Doubles = (up if late else bend(up)) @ wide(w_down)
    down = down if "no_down_bias" in slips else down + wide(b_down)
    return bend(down) if late else down


def gated_feed_forward(
    x: Array, w_gate: Array, w_up: Array, w_down: Array, *, slips: Slips = NONE
) -> Doubles:
    """(silu(x W_gate) * x W_up) W_down (Shazeer 2020)"""
    if "gate_swapped" in slips:
        w_gate, w_up = w_up, w_gate
    gate, up = wide(x) @ wide(w_gate), wide(x) @ wide(w_up)
    gate = gate if "gate_bare" in slips else _activation("gate_", "silu", slips)(gate)
    inner: Doubles = gate + up if "gate_added" in slips else gate * up
    return inner @ wide(w_down)


def decoder_layer(x: Array, params: Mapping[str, Any], *, slips: Slips = NONE) -> Doubles:
    """y = norm(x + attention(x)); norm(y + feed_forward(y)): post-norm, causal (Vaswani et al.
    2017, 3.1)
    """
    names = ("attention_norm", "feed_forward_norm")
    names = names[::-1] if "norms_swapped" in slips else names
    mask = np.triu(np.ones((len(x), len(x)), bool), 0 if "mask_diagonal" in slips else 1)

    def attend(h: Array) -> Doubles:
        q, k, v, o = (params[name] for name in ("w_q", "w_k", "w_v", "w_o"))
        return multi_head_attention(h, q, k, v, o, params["heads"], mask, slips=slips)

    def feed(h: Array) -> Doubles:
        weights = (params[name] for name in ("w_up", "b_up", "w_down", "b_down"))
        return feed_forward(h, *weights, slips=slips)

    y = wide(x)
    for part, sublayer, norm in zip(
        ("attention", "feed_forward"), (attend, feed), names, strict=True
    ):
        kept = wide(x) if "residual_of_input" in slips else y
        if {"no_residual", f"no_{part}_residual"} & {*slips}:
            kept = np.zeros_like(kept)
        y = _add_norm(y, kept, sublayer, params, norm, slips, f"no_{part}_norm" in slips)
    return y


def _add_norm(
    y: Doubles,
    kept: Doubles,
    sublayer: Any,
    params: Mapping[str, Any],
    name: str,
    slips: Slips,
    bare: bool,
) -> Doubles:
    def norm(h: Doubles) -> Doubles:
        weight, bias = params[f"{name}_weight"], params[f"{name}_bias"]
        return h if bare else layer_norm(h, weight, bias, params["eps"], slips=slips)

    if "pre_norm" in slips:
        return kept + wide(sublayer(norm(y)))
    if "norm_before_add" in slips:
        return kept + norm(sublayer(y))
    return norm(kept + wide(sublayer(y)))


def _activation(prefix: str, right: Activation, slips: Slips) -> Callable[[Array], Doubles]:
    """The one that is right, or another that the slips name."""
    names: tuple[Activation, ...] = ("gelu", "gelu_tanh", "silu", "relu", "sigmoid")
    return equations.activation(next((n for n in names if f"{prefix}{n}" in slips), right))


def _axis(slips: Slips) -> int | None:
    return None if "norm_whole" in slips else 0 if "norm_axis" in slips else -1


def _root(square: Any, eps: float, slips: Slips) -> Any:
    if "eps_outside" in slips:
        return np.sqrt(square) + eps
    eps = 0.0 if "eps_forgotten" in slips else eps
    return square + eps if "no_root" in slips else np.sqrt(square + eps)
