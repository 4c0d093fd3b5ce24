"""Attention kernels for training, in the place of the readable one: the same numbers, sooner.

They are what `ForwardContext.attend` takes: q (B, H, T, D), k and v (B, KV, S, D) -> (B, H, T, D).
What is hidden gets the lowest number there is, not -inf: padding that sees nothing sees everything,
which nobody reads, and no 0/0. Where a mask is "strict" that is read, and the readable one stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lucidlm.config import Config
from lucidlm.model.attention import Sight, Tap

Kernel = Callable[..., Tensor]
BLOCKS, LEAST = 4, 64  # of queries, and how many are one
LONG = 1024  # positions from which on a CPU is slower at (T, T) matrices than at its flash kernel


def explicit(q: Tensor, k: Tensor, v: Tensor, scale: float, sight: Sight, tap: Tap) -> Tensor:
    """Softmax over all scores of some queries at once: the fastest on CPUs while such matrices fit
    their caches.

    The scale goes into the queries, which are fewer than the scores, and one mask is enough. Where
    nobody looks ahead, each block of queries is multiplied with the keys up to its end alone.
    """
    steps = q.shape[2]
    width = max(LEAST, -(-steps // BLOCKS))
    if not sight.forward or steps <= width:
        return _part(q, k, v, scale, sight, tap)
    mixed = []
    for start in range(0, steps, width):
        end = min(start + width, steps)
        here = replace(
            sight,
            hidden=sight.hidden[:, :, start:end, :end],
            bias=None if sight.bias is None else sight.bias[:, :, start:end, :end],
        )
        mixed.append(_part(q[:, :, start:end], k[:, :, :end], v[:, :, :end], scale, here, tap))
    return torch.cat(mixed, dim=2)


def _part(q: Tensor, k: Tensor, v: Tensor, scale: float, sight: Sight, tap: Tap) -> Tensor:
    """Some queries and all the keys that they may see."""
    (batch, heads, steps, dim), kv_heads, seen = q.shape, k.shape[1], k.shape[2]
    scores = (q * scale).reshape(batch, kv_heads, -1, dim) @ k.mT
    scores = scores.view(batch, heads, steps, seen)
    if sight.bias is not None:
        scores = scores + sight.bias
    if sight.mask != "full":
        scores = scores.masked_fill(sight.hidden, torch.finfo(scores.dtype).min)
    pattern = tap("pattern", scores.softmax(-1).to(v.dtype))
    mixed = pattern.view(batch, kv_heads, -1, seen) @ v
    return mixed.view(batch, heads, steps, dim)


@dataclass(frozen=True)
class Fused:
    """PyTorch's own kernel, which never holds the scores; it drops out of the pattern itself."""

    dropout: float = 0.0

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float, sight: Sight, tap: Tap
    ) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        if groups > 1:
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        q, k, v = _alike(q, k, v)
        mask, alone = None, sight.bias is None
        if not (alone and sight.mask in ("causal", "full")):
            mask = torch.zeros((), dtype=q.dtype, device=q.device)
            mask = mask if sight.bias is None else sight.bias.to(q.dtype)
            mask = mask.masked_fill(sight.hidden, torch.finfo(mask.dtype).min)
        return functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout,
            is_causal=mask is None and sight.mask == "causal",
            scale=scale,
        )


def kernel(
    config: Config, wanted: str, device: torch.device, context: int, dropout: float = 0.0
) -> Kernel | None:
    """The kernel that `recipe.attention` names; None is the readable one.

    "auto" is PyTorch's on a GPU and for long contexts, else `explicit`.
    """
    if any(stack.mask == "strict" for stack in config.stacks.values()):
        return None
    if wanted == "auto":
        wanted = "sdpa" if device.type != "cpu" or context >= LONG else "explicit"
    return Fused(dropout) if wanted == "sdpa" else explicit


def _alike(*tensors: Tensor) -> list[Tensor]:
    """All in the type that autocast computes in, so that a rotated query is no wider than a
    value.
    """
    kind = tensors[0].device.type
    if torch.is_autocast_enabled(kind):
        wanted: Any = torch.get_autocast_dtype(kind)
        return [x.to(wanted) for x in tensors]
    return list(tensors)
