"""Attention: every position asks (query), every visible one answers (key) and gives (value).

Attention(Q, K, V) = softmax(Q K^T * scale + bias, masked) V, in `heads` subspaces side by side
(Vaswani et al. 2017, 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lucidlm import config
from lucidlm.engine import ForwardContext
from lucidlm.model.cache import KeyValueCache
from lucidlm.model.norm import build_norm
from lucidlm.model.position import rotate

Tap = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Sight:
    """Who may see whom in one kind of attention, and what position adds to it."""

    hidden: Tensor  # (B, 1, T, S), True where a query may not see a key
    rotation: tuple[Tensor, Tensor] | None = None  # cosine and sine, each (B, 1, T, D)
    bias: Tensor | None = None  # (B, H, T, S), added to the scores
    mask: config.MaskKind | None = None  # all that hides, where every row is one document as it is
    forward: bool = False  # whether every key behind a query's own place in its row is hidden


def may_not_see(
    kind: config.MaskKind,
    queries: Tensor,
    keys: Tensor,
    lengths: Tensor | None,
    window: int | None,
) -> Tensor:
    """True where a key is hidden from a query, (B, 1, T, S).

    From the positions of queries (B, T) and keys (B, S) and the rows' lengths (B,), None for all.
    """
    q, k = queries[:, :, None], keys[:, None, :]
    hidden = (k < 0 if lengths is None else k >= lengths[:, None, None]).expand(-1, q.shape[1], -1)
    if kind != "full":
        hidden = hidden | (k > q if kind == "causal" else k >= q)
    if window is not None:
        hidden = hidden | (q - k >= window)
    return hidden[:, None]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, sight: Sight, tap: Tap) -> Tensor:
    """The readable kernel: q (B, H, T, D), k and v (B, KV, S, D) -> mixed (B, H, T, D).

    Head h reads key/value head h // (H/KV). The query heads of one group are laid under each other,
    so that each key is multiplied once.
    """
    (batch, heads, steps, dim), kv_heads, seen = q.shape, k.shape[1], k.shape[2]
    products = q.reshape(batch, kv_heads, -1, dim) @ k.mT
    products = tap("products", products.view(batch, heads, steps, seen))
    scores = products * scale
    if sight.bias is not None:
        scores = scores + tap("position_bias", sight.bias)
    scores = tap("scores", scores.masked_fill(sight.hidden, -torch.inf))
    wide = torch.promote_types(scores.dtype, torch.float32)
    pattern = scores.softmax(-1, dtype=wide).to(q.dtype)
    # a query that sees nothing at all takes nothing, where softmax alone says 0/0
    pattern = tap("pattern", pattern.masked_fill(sight.hidden, 0.0))
    mixed = pattern.view(batch, kv_heads, -1, seen) @ v
    return tap("mixed", mixed.view(batch, heads, steps, dim))


class Attention(nn.Module):
    """One attention sublayer. `reach` names the `Sight` of ctx it looks through: "global", "local"
    or "memory".
    """

    def __init__(self, attention: config.Attention, dim: int, slot: int, reach: str) -> None:
        super().__init__()
        heads, kv_heads, head_dim = attention.heads, attention.kv_heads, attention.head_dim
        self.query = nn.Linear(dim, heads * head_dim, attention.bias)
        self.key = nn.Linear(dim, kv_heads * head_dim, attention.bias)
        self.value = nn.Linear(dim, kv_heads * head_dim, attention.bias)
        self.output = nn.Linear(heads * head_dim, dim, attention.output_bias)
        self.query_norm = build_norm(attention.qk_norm, head_dim)
        self.key_norm = build_norm(attention.qk_norm, head_dim)
        self.head_dim, self.scale, self.slot, self.reach = head_dim, attention.scale, slot, reach

    def forward(self, x: Tensor, ctx: ForwardContext, memory: Tensor | None = None) -> Tensor:
        """x (B, T, dim) looks at itself and what the cache holds, or at `memory` (B, S, dim) where
        it is cross-attention.
        """
        tap, sight = ctx.tap(self), ctx.sight[self.reach]
        q = self.query_norm(tap("query", self.split(self.query(x))), ctx)  # (B, H, T, D)
        if self.reach == "memory":
            k, v = self.remembered(memory, ctx, tap)
        else:
            k, v = self.keys_and_values(x, ctx, tap)
        if sight.rotation is not None:
            q = tap("query_rotated", rotate(q, sight.rotation))
            k = tap("key_rotated", rotate(k, sight.rotation))
        if self.reach != "memory" and isinstance(ctx.cache, KeyValueCache):
            k, v = ctx.cache.update(self.slot, k, v, ctx.positions)  # (B, KV, S, D)
        mixed = (ctx.attend or attend)(q, k, v, self.scale, sight, tap)  # (B, H, T, D)
        return tap("output", self.output(mixed.transpose(1, 2).flatten(2)))

    def keys_and_values(self, x: Tensor, ctx: ForwardContext, tap: Tap) -> tuple[Tensor, Tensor]:
        k = self.key_norm(tap("key", self.split(self.key(x))), ctx)  # (B, KV, T, D)
        return k, tap("value", self.split(self.value(x)))

    def remembered(
        self, memory: Tensor | None, ctx: ForwardContext, tap: Tap
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder's output: computed once, then kept in the cache."""
        cache = ctx.cache if isinstance(ctx.cache, KeyValueCache) else None
        if cache is not None and self.slot in cache.cross:
            return cache.cross[self.slot]
        assert memory is not None, "cross-attention without an encoder's output"
        pair = self.keys_and_values(memory, ctx, tap)
        if cache is not None:
            cache.cross[self.slot] = pair
        return pair

    def split(self, x: Tensor) -> Tensor:
        """(B, T, heads * D) -> (B, heads, T, D)"""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
