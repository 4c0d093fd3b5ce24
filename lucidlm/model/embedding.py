"""Token ids to vectors, with position (and segment) added; and the way back, from vectors to
words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lucidlm import config
from lucidlm.engine import ForwardContext
from lucidlm.model.feedforward import ACTIVATIONS
from lucidlm.model.norm import build_norm
from lucidlm.model.position import sinusoids


class Embedding(nn.Module):
    """table[id] * scale (+ position) (+ segment), normed where the config says so."""

    def __init__(self, model: config.Config, tokens: nn.Embedding) -> None:
        super().__init__()
        embedding, dim = model.embedding, model.dim
        rows = model.max_positions + embedding.position_offset
        self.tokens = tokens
        self.positions = nn.Embedding(rows, dim) if embedding.positions == "learned" else None
        self.segments = nn.Embedding(embedding.segments, dim) if embedding.segments else None
        self.norm = build_norm(embedding.norm, dim)
        self.config = embedding

    def forward(self, ids: Tensor, ctx: ForwardContext) -> Tensor:
        """ids (B, T) -> (B, T, dim)"""
        tap = ctx.tap(self)
        x = tap("tokens", self.tokens(ids) * self.config.scale)
        if self.segments is not None:
            kinds = torch.zeros_like(ids) if ctx.segments is None else ctx.segments
            x = x + tap("segments", self.segments(kinds))
        if self.positions is not None:
            # padding may stand beyond the last row; nobody sees it
            rows = (ctx.positions + self.config.position_offset).clamp(
                max=self.positions.num_embeddings - 1
            )
            x = x + tap("positions", self.positions(rows))
        elif self.config.positions == "sinusoidal":
            x = x + tap("positions", sinusoids(ctx.positions, x.shape[-1], x.dtype))
        return self.norm(tap("sum", x), ctx)


class Head(nn.Module):
    """The last vector times the transposed token table: one logit for every word of the
    vocabulary.
    """

    def __init__(self, model: config.Config, head: config.Head) -> None:
        super().__init__()
        dim, words = model.dim, model.vocab_size
        self.weight = None if head.tied else nn.Parameter(torch.empty(words, dim))
        self.bias = nn.Parameter(torch.empty(words)) if head.bias else None
        self.transform = nn.Linear(dim, dim) if head.transform else None
        self.activation = ACTIVATIONS[head.transform] if head.transform else None
        self.norm = build_norm(head.norm, dim)
        self.scale = head.scale

    def forward(self, x: Tensor, table: Tensor, ctx: ForwardContext) -> Tensor:
        """x (B, T, dim), table (vocab, dim) -> logits (B, T, vocab)"""
        tap = ctx.tap(self)
        if self.transform is not None and self.activation is not None:
            x = tap("activated", self.activation(tap("projected", self.transform(x))))
            x = tap("transformed", self.norm(x, ctx))
        if self.scale != 1.0:
            x = x * self.scale
        return tap(
            "logits", functional.linear(x, table if self.weight is None else self.weight, self.bias)
        )


class Pooler(nn.Module):
    """tanh(dense(first vector)): BERT's vector for the whole text (Devlin et al. 2019)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)

    def forward(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        """x (B, T, dim) -> (B, dim)"""
        tap = ctx.tap(self)
        return tap("pooled", tap("projected", self.dense(x[:, 0])).tanh())
