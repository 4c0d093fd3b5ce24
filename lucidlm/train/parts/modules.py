"""What takes the place of a part that is taken away. A layer of the model is called as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from lucidlm.engine import ForwardContext
from lucidlm.model.attention import Attention, Sight, Tap
from lucidlm.model.norm import AddNorm

Sublayer = Callable[[Tensor], Tensor]


class Uniform(nn.Module):
    """Attention whose weights are the average of what is visible: it has nothing to choose by."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.inner = attention
        for unused in (attention.query, attention.key):
            unused.requires_grad_(False)

    def forward(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        return self.inner(x, replace(ctx, attend=average))


def average(q: Tensor, k: Tensor, v: Tensor, scale: float, sight: Sight, tap: Tap) -> Tensor:
    """A kernel like `model.attention.attend` whose scores are all the same."""
    scores = torch.zeros((), dtype=v.dtype).masked_fill(sight.hidden, -torch.inf)
    pattern = tap("pattern", scores.softmax(-1))  # (B, 1, T, S)
    return pattern @ v


class Skipped(nn.Module):
    """A sublayer that is not there: x goes by."""

    def forward(self, x: Tensor, sublayer: Sublayer, ctx: ForwardContext) -> Tensor:
        return x


class Alone(nn.Module):
    """A sublayer without the residual connection round it: what it makes of x replaces x."""

    def __init__(self, inner: AddNorm) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, sublayer: Sublayer, ctx: ForwardContext) -> Tensor:
        inner = self.inner
        return inner.residual(inner.output(sublayer(inner.input(x, ctx)), ctx), ctx)


class Recurrent(nn.Module):
    """A layer of gated recurrent units (Cho et al. 2014), in the place of one with attention.

    It reads one token after the other and has one vector to remember all of them by; `output`
    brings the last layer's back to the model's width.
    """

    def __init__(self, width: int, hidden: int, output: int | None = None) -> None:
        super().__init__()
        self.cells = nn.GRU(width, hidden, batch_first=True)
        self.output = None if output is None else nn.Linear(hidden, output)

    def forward(self, x: Tensor, ctx: ForwardContext, memory: Tensor | None = None) -> Tensor:
        x, _ = self.cells(x)
        return x if self.output is None else self.output(x)
