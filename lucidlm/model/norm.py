"""Add & norm: the residual sum, and the two norms that keep its size in bounds."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lucidlm import config
from lucidlm.engine import ForwardContext


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last axis (Ba et al. 2016)."""

    def __init__(self, norm: config.Norm, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.empty(dim))
        self.norm = norm

    def forward(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        tap = ctx.tap(self)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = tap("mean", wide.mean(-1, keepdim=True))
        centred = wide - mean
        scale = tap("scale", (centred.square().mean(-1, keepdim=True) + self.norm.eps).sqrt())
        normalized = tap("normalized", (centred / scale).to(x.dtype))
        return tap("output", normalized * (self.weight + self.norm.offset) + self.bias)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * (weight + offset), over the last axis (Zhang & Sennrich 2019)."""

    def __init__(self, norm: config.Norm, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.norm = norm

    def forward(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        tap = ctx.tap(self)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = tap("scale", (wide.square().mean(-1, keepdim=True) + self.norm.eps).sqrt())
        normalized = tap("normalized", (wide / scale).to(x.dtype))
        weight = self.weight + self.norm.offset if self.norm.offset else self.weight
        return tap("output", normalized * weight)


class Identity(nn.Module):
    """The norm that is not there."""

    def forward(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        return x


def build_norm(norm: config.Norm | None, dim: int) -> LayerNorm | RMSNorm | Identity:
    """The norm that a config describes; `Identity` for none."""
    if norm is None:
        return Identity()
    return LayerNorm(norm, dim) if norm.kind == "layer" else RMSNorm(norm, dim)


class AddNorm(nn.Module):
    """x = residual(x + output(sublayer(input(x)))): pre-norm, post-norm and sandwich by which of
    the three are there.
    """

    def __init__(self, stack: config.Stack, dim: int) -> None:
        super().__init__()
        at = dict.fromkeys(stack.norm_places, stack.norm)
        self.input = build_norm(at.get("input"), dim)
        self.output = build_norm(at.get("output"), dim)
        self.residual = build_norm(at.get("residual"), dim)

    def forward(
        self, x: Tensor, sublayer: Callable[[Tensor], Tensor], ctx: ForwardContext
    ) -> Tensor:
        added = x + self.output(sublayer(self.input(x, ctx)), ctx)
        return self.residual(ctx.tap(self)("added", added), ctx)
