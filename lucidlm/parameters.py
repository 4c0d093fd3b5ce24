"""Every parameter of a model by its address, with its shape: from the `Config` alone, nothing
allocated.
"""

from __future__ import annotations

from collections.abc import Iterator

from lucidlm.config import Attention, Config, FeedForward, Norm, Stack

Shape = tuple[int, ...]


def parameters(config: Config) -> dict[str, Shape]:
    """Address to shape, in order of computation. A stack that is alone is not named; shared tables
    appear once.
    """
    return dict(_model(config))


def _model(config: Config) -> Iterator[tuple[str, Shape]]:
    dim, stacks = config.dim, config.stacks
    for index, (name, stack) in enumerate(stacks.items()):
        at = f"{name}." if len(stacks) > 1 else ""
        if index == 0:
            yield f"{at}embedding.tokens.weight", (config.vocab_size, dim)
        yield from _embedding(f"{at}embedding", config)
        yield from _stack(at, stack, dim)
    if config.head is not None:
        head = config.head
        if not head.tied:
            yield "head.weight", (config.vocab_size, dim)
        if head.bias:
            yield "head.bias", (config.vocab_size,)
        if head.transform:
            yield from _linear("head.transform", dim, dim, True)
        yield from _norm("head.norm", head.norm, dim)
    if config.pooler:
        yield from _linear("pooler.dense", dim, dim, True)


def _embedding(at: str, config: Config) -> Iterator[tuple[str, Shape]]:
    embedding, dim = config.embedding, config.dim
    if embedding.positions == "learned":
        yield f"{at}.positions.weight", (config.max_positions + embedding.position_offset, dim)
    if embedding.segments:
        yield f"{at}.segments.weight", (embedding.segments, dim)
    yield from _norm(f"{at}.norm", embedding.norm, dim)


def _stack(at: str, stack: Stack, dim: int) -> Iterator[tuple[str, Shape]]:
    relative = stack.attention.relative
    if relative is not None:
        yield f"{at}position_bias.weight", (relative.buckets, stack.attention.heads)
    for layer in range(stack.layers):
        here = f"{at}layers.{layer}"
        yield from _attention(f"{here}.attention", stack.attention, dim)
        yield from _add_norm(f"{here}.attention_norm", stack, dim)
        if stack.cross is not None:
            yield from _attention(f"{here}.cross_attention", stack.cross, dim)
            yield from _add_norm(f"{here}.cross_attention_norm", stack, dim)
        yield from _feedforward(f"{here}.feedforward", stack.feedforward, dim)
        yield from _add_norm(f"{here}.feedforward_norm", stack, dim)
    if stack.final_norm:
        yield from _norm(f"{at}final_norm", stack.norm, dim)


def _attention(at: str, attention: Attention, dim: int) -> Iterator[tuple[str, Shape]]:
    q, kv = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
    yield from _linear(f"{at}.query", q, dim, attention.bias)
    yield from _linear(f"{at}.key", kv, dim, attention.bias)
    yield from _linear(f"{at}.value", kv, dim, attention.bias)
    yield from _linear(f"{at}.output", dim, q, attention.output_bias)
    yield from _norm(f"{at}.query_norm", attention.qk_norm, attention.head_dim)
    yield from _norm(f"{at}.key_norm", attention.qk_norm, attention.head_dim)


def _feedforward(at: str, feedforward: FeedForward, dim: int) -> Iterator[tuple[str, Shape]]:
    if feedforward.gated:
        yield from _linear(f"{at}.gate", feedforward.hidden, dim, feedforward.bias)
    yield from _linear(f"{at}.up", feedforward.hidden, dim, feedforward.bias)
    yield from _linear(f"{at}.down", dim, feedforward.hidden, feedforward.bias)


def _add_norm(at: str, stack: Stack, dim: int) -> Iterator[tuple[str, Shape]]:
    for place in ("input", "output", "residual"):
        if place in stack.norm_places:
            yield from _norm(f"{at}.{place}", stack.norm, dim)


def _norm(at: str, norm: Norm | None, dim: int) -> Iterator[tuple[str, Shape]]:
    if norm is not None:
        yield f"{at}.weight", (dim,)
        if norm.kind == "layer":
            yield f"{at}.bias", (dim,)


def _linear(at: str, rows: int, columns: int, bias: bool) -> Iterator[tuple[str, Shape]]:
    yield f"{at}.weight", (rows, columns)
    if bias:
        yield f"{at}.bias", (rows,)
