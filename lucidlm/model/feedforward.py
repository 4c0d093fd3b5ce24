"""Feed-forward: each position alone, widened, bent by an activation, narrowed again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from lucidlm import config
from lucidlm.engine import ForwardContext

ACTIVATIONS: dict[config.Activation, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,  # x * Phi(x), exact
    "gelu_tanh": partial(
        functional.gelu, approximate="tanh"
    ),  # Hendrycks & Gimpel 2016's approximation
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


class FeedForward(nn.Module):
    """down(activation(up x)) (Vaswani et al. 2017, 3.3), or gated: down(activation(gate x) * up x)
    (Shazeer 2020).
    """

    def __init__(self, feedforward: config.FeedForward, dim: int) -> None:
        super().__init__()
        hidden, bias = feedforward.hidden, feedforward.bias
        self.gate = nn.Linear(dim, hidden, bias) if feedforward.gated else None
        self.up = nn.Linear(dim, hidden, bias)
        self.down = nn.Linear(hidden, dim, bias)
        self.activation = ACTIVATIONS[feedforward.activation]

    def forward(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        tap = ctx.tap(self)
        if self.gate is None:
            up = tap("up", self.up(x))  # (B, T, hidden)
            inner = tap("activated", self.activation(up))
        else:
            gate = tap("gate", self.gate(x))  # (B, T, hidden)
            up = tap("up", self.up(x))
            inner = tap("product", tap("activated", self.activation(gate)) * up)
        return tap("output", self.down(inner))
