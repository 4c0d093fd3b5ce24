"""The whole Transformer (Vaswani et al. 2017): embedding, N layers, head; one stack or two, by
config.

Read `Layer.forward`, then `Stack.forward`, then `Transformer.forward`: that is all of it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from lucidlm import config
from lucidlm.engine import ForwardContext
from lucidlm.model.attention import Attention, Sight, may_not_see
from lucidlm.model.cache import KeyValueCache
from lucidlm.model.embedding import Embedding, Head, Pooler
from lucidlm.model.feedforward import FeedForward
from lucidlm.model.norm import AddNorm, build_norm
from lucidlm.model.position import RelativePositions, rotation


class Layer(nn.Module):
    """Attention, cross-attention where there is an encoder, feed-forward; add & norm round each."""

    def __init__(self, stack: config.Stack, dim: int, slot: int) -> None:
        super().__init__()
        local = stack.attention.local
        reach = "local" if local is not None and slot in local.layers else "global"
        self.attention = Attention(stack.attention, dim, slot, reach)
        self.attention_norm = AddNorm(stack, dim)
        self.cross_attention = Attention(stack.cross, dim, slot, "memory") if stack.cross else None
        self.cross_attention_norm = AddNorm(stack, dim) if stack.cross else None
        self.feedforward = FeedForward(stack.feedforward, dim)
        self.feedforward_norm = AddNorm(stack, dim)

    def forward(self, x: Tensor, ctx: ForwardContext, memory: Tensor | None = None) -> Tensor:
        """x (B, T, dim), memory (B, S, dim) -> (B, T, dim)"""
        tap = ctx.tap(self)
        x = tap("residual_in", x)
        x = tap("residual_mid", self.attention_norm(x, lambda h: self.attention(h, ctx), ctx))
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            look = self.cross_attention
            x = tap(
                "residual_cross", self.cross_attention_norm(x, lambda h: look(h, ctx, memory), ctx)
            )
        return tap(
            "residual_out", self.feedforward_norm(x, lambda h: self.feedforward(h, ctx), ctx)
        )


class Stack(nn.Module):
    """An encoder or a decoder: embedding, layers, and a last norm where there is one."""

    def __init__(self, model: config.Config, stack: config.Stack, tokens: nn.Embedding) -> None:
        super().__init__()
        self.embedding = Embedding(model, tokens)
        relative = stack.attention.relative
        self.position_bias = (
            RelativePositions(relative, stack.attention.heads, two_sided=stack.mask == "full")
            if relative
            else None
        )
        self.layers = nn.ModuleList(Layer(stack, model.dim, slot) for slot in range(stack.layers))
        self.final_norm = build_norm(stack.norm if stack.final_norm else None, model.dim)
        self.config = stack

    def forward(self, ids: Tensor, ctx: ForwardContext, memory: Tensor | None = None) -> Tensor:
        """ids (B, T) at ctx.positions -> (B, T, dim)"""
        x = self.embedding(ids, ctx)
        ctx = self.look(ctx, x.dtype)
        for layer in self.layers:
            x = layer(x, ctx, memory)
        return self.final_norm(x, ctx)

    def look(self, ctx: ForwardContext, dtype: torch.dtype) -> ForwardContext:
        """ctx with the `Sight` of this stack's kinds of attention: masks, rotations and bias, once
        for all layers.
        """
        attention, positions, lengths = self.config.attention, ctx.positions, ctx.lengths
        keys = positions
        if isinstance(ctx.cache, KeyValueCache):
            seen = positions.shape[1] + max(ctx.cache.lengths)
            keys = torch.arange(seen, device=positions.device).expand(len(positions), -1)
        bias = None if self.position_bias is None else self.position_bias(positions, keys)
        sight = dict(ctx.sight or {})
        reaches: dict[str, tuple[config.Rope | None, int | None]]
        reaches = {"global": (attention.rope, None)}
        if attention.local is not None:
            reaches["local"] = (attention.local.rope or attention.rope, attention.local.window)
        for reach, (rope, window) in reaches.items():
            hidden = may_not_see(self.config.mask, positions, keys, lengths, window)
            whole = lengths is None and ctx.cache is None and window is None
            if ctx.documents is not None:
                hidden, whole = hidden | _strangers(ctx.documents, ctx.documents), False
            sight[reach] = Sight(
                hidden=hidden,
                mask=self.config.mask if whole else None,
                forward=self.config.mask != "full" and ctx.cache is None,
                rotation=rotation(rope, positions, attention.head_dim, dtype) if rope else None,
                bias=bias,
            )
        return replace(ctx, sight=sight)


class Transformer(nn.Module):
    """A model by its `Config`. Every module knows its address as `path`: the name its sites and
    parameters go by.
    """

    def __init__(self, model: config.Config) -> None:
        super().__init__()
        self.config = model
        tokens = nn.Embedding(model.vocab_size, model.dim)
        self.encoder = Stack(model, model.encoder, tokens) if model.encoder else None
        self.decoder = Stack(model, model.decoder, tokens) if model.decoder else None
        self.head = Head(model, model.head) if model.head else None
        self.pooler = Pooler(model.dim) if model.pooler else None
        for name, module in self.named_modules():
            module.path = self.address(name)

    def forward(self, ids: Tensor, ctx: ForwardContext, source: Tensor | None = None) -> Tensor:
        """ids (B, T), source (B, S) for an encoder-decoder -> logits (B, T, vocab)."""
        return self.logits(self.vectors(ids, ctx, source), ctx)

    def vectors(self, ids: Tensor, ctx: ForwardContext, source: Tensor | None = None) -> Tensor:
        """ids (B, T), source (B, S) -> last vectors (B, T, dim). Each row is one document, from
        position 0, or those that ctx says are packed in it.
        """
        memory = None
        if source is not None and self.decoder is not None:
            there = replace(ctx, positions=ctx.source_positions, documents=ctx.source_documents)
            memory = self.encode(source, None, there)
            ctx = remember(ctx, None, memory)
        return self.run(ids, None, ctx, memory)

    def encode(self, ids: Tensor, lengths: Tensor | None, ctx: ForwardContext) -> Tensor:
        """ids (B, S), of which `lengths` (B,) are real (None: all) -> the encoder's last vectors
        (B, S, dim).
        """
        assert self.encoder is not None, "no encoder"
        positions = ctx.positions
        if ctx.documents is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1)
        x = self.encoder(ids, replace(ctx, positions=positions, lengths=lengths, cache=None))
        if self.pooler is not None and ctx.tracer is not None:  # nothing but a watcher reads it
            self.pooler(x, ctx)
        return x

    def run(
        self,
        ids: Tensor,
        lengths: Tensor | None,
        ctx: ForwardContext,
        memory: Tensor | None = None,
    ) -> Tensor:
        """The stack that ends in the head, behind what the cache holds; `lengths` (B,) counts new
        positions, None for all.
        """
        if self.decoder is None:
            return self.encode(ids, lengths, ctx)
        if ctx.documents is None:
            positions = torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1)
            if ctx.cache is not None:
                start = torch.tensor(ctx.cache.lengths, device=ids.device)
                positions = start[:, None] + positions
                lengths = None if lengths is None else start + lengths
            ctx = replace(ctx, positions=positions)
        return self.decoder(ids, replace(ctx, lengths=lengths), memory)

    def logits(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        """(B, T, dim) -> (B, T, vocab)"""
        assert self.head is not None, "no head"
        return self.head(x, self.table, ctx)

    @property
    def table(self) -> Tensor:
        """The token table (vocab, dim), shared by both stacks and a tied head."""
        stack = self.decoder or self.encoder
        assert stack is not None
        return stack.embedding.tokens.weight

    def address(self, name: str) -> str:
        """A module's or parameter's name as the world knows it: a stack that is alone is not
        named.
        """
        if self.encoder is not None and self.decoder is not None:
            return name
        return name.removeprefix("encoder.").removeprefix("decoder.")

    def weights(self) -> dict[str, nn.Parameter]:
        """Every parameter by its address, each once."""
        return {self.address(name): weight for name, weight in self.named_parameters()}


def remember(ctx: ForwardContext, lengths: Tensor | None, memory: Tensor) -> ForwardContext:
    """ctx whose cross-attention sees the first `lengths` (B,) of the encoder's vectors (B, S, dim),
    all where it is None, and of those its own document's.
    """
    columns = torch.arange(memory.shape[1], device=memory.device)[None]
    hidden = (columns < 0 if lengths is None else columns >= lengths[:, None])[:, None, None]
    mask: config.MaskKind | None = "full" if lengths is None else None
    if ctx.source_documents is not None:
        hidden, mask = hidden | _strangers(ctx.documents, ctx.source_documents), None
    return replace(ctx, sight={"memory": Sight(hidden=hidden, mask=mask)})  # hidden (B, 1, ., S)


def _strangers(here: Tensor, there: Tensor) -> Tensor:
    """True where the documents of two places (B, T) and (B, S) differ, (B, 1, T, S)."""
    return (here[:, :, None] != there[:, None, :])[:, None]
