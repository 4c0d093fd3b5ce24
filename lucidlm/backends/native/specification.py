"""A config and its weights as the native module takes them: nested dictionaries of matrices, and
vectors in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lucidlm.config import Attention, Config, Norm, RelativeBias, Rope, Stack
from lucidlm.reference.equations import bucket, sinusoids

Spec = dict[str, Any]
Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Weights:
    """Parameters by address: matrices of the native module's, and the rest as arrays."""

    matrices: Mapping[str, Any]
    vectors: Mapping[str, Array]

    def linear(self, at: str) -> tuple[Any, Array | None] | None:
        """A projection's (matrix, bias); None where there is none."""
        matrix = self.matrices.get(f"{at}.weight")
        return None if matrix is None else (matrix, self.vectors.get(f"{at}.bias"))

    def norm(self, at: str, norm: Norm | None) -> Spec | None:
        weight = self.vectors.get(f"{at}.weight")
        if norm is None or weight is None:
            return None
        weight = np.asarray(weight, np.float32) + np.float32(norm.offset)
        bias = self.vectors.get(f"{at}.bias")
        return {"centred": norm.kind == "layer", "eps": norm.eps, "weight": weight, "bias": bias}


def specification(config: Config, weights: Weights) -> Spec:
    """Everything that the native model is made of."""
    first = next(iter(config.stacks))
    at = f"{first}." if len(config.stacks) > 1 else ""
    table = weights.matrices[f"{at}embedding.tokens.weight"]
    return {
        "dim": config.dim,
        "vocab": config.vocab_size,
        "table": table,
        "encoder": _stack("encoder", config, weights),
        "decoder": _stack("decoder", config, weights),
        "head": _head(config, weights, table),
    }


def _head(config: Config, weights: Weights, table: Any) -> Spec | None:
    head = config.head
    if head is None:
        return None
    return {
        "scale": head.scale,
        "transform": weights.linear("head.transform"),
        "activation": head.transform,
        "norm": weights.norm("head.norm", head.norm),
        "table": table if head.tied else weights.matrices["head.weight"],
        "bias": weights.vectors.get("head.bias"),
    }


def _stack(name: str, config: Config, weights: Weights) -> Spec | None:
    stack = config.stacks.get(name)
    if stack is None:
        return None
    at = f"{name}." if len(config.stacks) > 1 else ""
    embedding = config.embedding
    positions = weights.vectors.get(f"{at}embedding.positions.weight")
    if positions is not None:
        positions = np.ascontiguousarray(positions[embedding.position_offset :])
    elif embedding.positions == "sinusoidal":
        positions = sinusoids(np.arange(config.max_positions), config.dim).astype(np.float32)
    relative = stack.attention.relative
    return {
        "embedding": {
            "scale": embedding.scale,
            "positions": positions,
            "segments": weights.vectors.get(f"{at}embedding.segments.weight"),
            "norm": weights.norm(f"{at}embedding.norm", embedding.norm),
        },
        "layers": [_layer(f"{at}layers.{i}", i, stack, weights) for i in range(stack.layers)],
        "final_norm": weights.norm(f"{at}final_norm", stack.norm if stack.final_norm else None),
        "mask": stack.mask,
        "bias": None
        if relative is None
        else _by_distance(
            weights.vectors[f"{at}position_bias.weight"], relative, stack.mask == "full"
        ),
    }


def _layer(at: str, slot: int, stack: Stack, weights: Weights) -> Spec:
    def around(name: str) -> Spec:
        return {
            place: weights.norm(f"{at}.{name}.{place}", stack.norm) for place in stack.norm_places
        }

    feedforward, local = stack.feedforward, stack.attention.local
    near = local is not None and slot in local.layers
    rope = (local.rope if near and local else None) or stack.attention.rope
    window = local.window if near and local else 0
    return {
        "attention": _attention(f"{at}.attention", stack.attention, rope, window, weights),
        "attention_norm": around("attention_norm"),
        "cross": None
        if stack.cross is None
        else _attention(f"{at}.cross_attention", stack.cross, None, 0, weights),
        "cross_norm": around("cross_attention_norm"),
        "hidden": feedforward.hidden,
        "gate": weights.linear(f"{at}.feedforward.gate"),
        "up": weights.linear(f"{at}.feedforward.up"),
        "down": weights.linear(f"{at}.feedforward.down"),
        "activation": feedforward.activation,
        "feedforward_norm": around("feedforward_norm"),
    }


def _attention(
    at: str, attention: Attention, rope: Rope | None, window: int, weights: Weights
) -> Spec:
    return {
        "heads": attention.heads,
        "kv_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "scale": attention.scale,
        "window": window,
        "query": weights.linear(f"{at}.query"),
        "key": weights.linear(f"{at}.key"),
        "value": weights.linear(f"{at}.value"),
        "output": weights.linear(f"{at}.output"),
        "query_norm": weights.norm(f"{at}.query_norm", attention.qk_norm),
        "key_norm": weights.norm(f"{at}.key_norm", attention.qk_norm),
        "frequencies": None if rope is None else _frequencies(rope, attention.head_dim),
    }


def _frequencies(rope: Rope, head_dim: int) -> Array:
    """(D/2,) radians a position, in float32 as `model.position` computes them: at a far position
    another rounding is another angle.
    """
    i = np.arange(0, head_dim, 2, dtype=np.float32)
    turn = np.float32(1.0) / np.float32(rope.base) ** (i / np.float32(head_dim))
    if rope.scaling == "linear":
        turn = turn / np.float32(rope.factor)
    if rope.scaling == "llama3":
        periods = rope.original_positions / (2 * math.pi / turn)
        keep = (periods - rope.low_factor) / (rope.high_factor - rope.low_factor)
        keep = np.clip(keep, 0, 1)
        turn = (1 - keep) * turn / rope.factor + keep * turn
    return np.asarray(turn, np.float32)


def _by_distance(table: Array, relative: RelativeBias, two_sided: bool) -> Array:
    """T5's bias as (heads, 2 reach + 1): column d + reach for a key d positions behind its query.
    From `max_distance` on it stays the same.
    """
    reach = relative.max_distance
    buckets = bucket(np.arange(-reach, reach + 1), relative, two_sided)
    return np.ascontiguousarray(np.asarray(table, np.float32)[buckets].T)
