"""The forward pass of any `Config`, one sequence at a time, put together from the equations.

Each step is a generator: it yields (address, value) at every site, goes on with the value that is
sent back, and returns its result. Who drives it may so look at every number, or replace it.
Arrays are float64: T new positions, S seen, H query heads, KV key/value heads of D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from lucidlm.config import Attention, Config, FeedForward, Norm, Stack
from lucidlm.reference import equations
from lucidlm.reference.equations import Doubles, Numbers, wide

R = TypeVar("R")
Steps = Generator[tuple[str, Doubles], Doubles, R]
Run = Steps[Doubles]
KeysValues = tuple[Doubles, Doubles]


@dataclass
class Past:
    """What one sequence has read: positions before `length`. Arrays are replaced, never written
    into.
    """

    length: int = 0
    read: dict[str, KeysValues] = field(default_factory=dict)  # (KV, S, D), by attention's address
    memory: Doubles | None = None  # the encoder's output (S, dim)
    looked_at: dict[str, KeysValues] = field(default_factory=dict)  # cross-attention's, likewise

    def extend(self, at: str, key: Doubles, value: Doubles) -> KeysValues:
        """Everything read before, and behind it the new key and value (KV, T, D)."""
        if at in self.read:
            before = [x[:, : self.length] for x in self.read[at]]
            key, value = (
                np.concatenate(pair, axis=1) for pair in zip(before, (key, value), strict=True)
            )
        self.read[at] = key, value
        return key, value

    def copy(self) -> Past:
        return replace(self, read=dict(self.read), looked_at=dict(self.looked_at))


class Forward:
    """The steps of one model with its weights, which are widened to float64 as they are used."""

    def __init__(self, config: Config, weights: Mapping[str, Numbers]) -> None:
        self.config = config
        self.weights = weights
        self.is_two = len(config.stacks) > 1
        # both stacks and a tied head read one token table, which stands with the first
        self.tokens = f"{self.prefix(next(iter(config.stacks)))}embedding.tokens.weight"

    def prefix(self, name: str) -> str:
        """What addresses of the stack `name` begin with: nothing where it is alone."""
        return f"{name}." if self.is_two else ""

    def encode(self, ids: Sequence[int], segments: Sequence[int]) -> Run:
        """ids of a whole source -> the encoder's last vectors (T, dim)"""
        x = yield from self.stack("encoder", ids, segments, Past())
        if self.config.pooler:
            yield from self.pooler(x)
        return x

    def decode(self, ids: Sequence[int], segments: Sequence[int], past: Past) -> Run:
        """ids that follow `past`, which then holds them -> the decoder's last vectors (T, dim)"""
        x = yield from self.stack("decoder", ids, segments, past)
        past.length += len(ids)
        return x

    def stack(self, name: str, ids: Sequence[int], segments: Sequence[int], past: Past) -> Run:
        x = yield from self.embedding(name, ids, segments, past.length)
        for number in range(self.config.stacks[name].layers):
            x = yield from self.layer(name, number, x, past)
        return (yield from self.final_norm(name, x))

    def embedding(
        self, name: str, ids: Sequence[int], segments: Sequence[int], start: int = 0
    ) -> Run:
        """x[p] = table[id[p]] scale + segment[p] + position[p], then the norm -> (T, dim)"""
        at, embedding = f"{self.prefix(name)}embedding", self.config.embedding
        x = yield f"{at}.tokens", self.rows(self.tokens, ids) * embedding.scale
        if embedding.segments:
            x = x + (yield f"{at}.segments", self.rows(f"{at}.segments.weight", segments))
        positions = np.arange(start, start + len(ids))
        if embedding.positions == "learned":
            learned = self.rows(f"{at}.positions.weight", positions + embedding.position_offset)
            x = x + (yield f"{at}.positions", learned)
        elif embedding.positions == "sinusoidal":
            waves = equations.sinusoids(positions, self.config.dim)
            x = x + (yield f"{at}.positions", waves)
        x = yield f"{at}.sum", x
        return (yield from self.norm(f"{at}.norm", embedding.norm, x))

    def layer(self, name: str, number: int, x: Doubles, past: Past) -> Run:
        """The residual stream (T, dim) through one layer."""
        at, stack = f"{self.prefix(name)}layers.{number}", self.config.stacks[name]
        x = yield f"{at}.residual_in", x
        x = yield from self.add_norm(
            f"{at}.attention_norm", stack, x, lambda h: self.attention(name, number, h, past)
        )
        x = yield f"{at}.residual_mid", x
        if (cross := stack.cross) is not None:
            x = yield from self.add_norm(
                f"{at}.cross_attention_norm",
                stack,
                x,
                lambda h: self.cross_attention(f"{at}.cross_attention", cross, h, past),
            )
            x = yield f"{at}.residual_cross", x
        x = yield from self.add_norm(
            f"{at}.feedforward_norm",
            stack,
            x,
            lambda h: self.feedforward(f"{at}.feedforward", stack.feedforward, h),
        )
        return (yield f"{at}.residual_out", x)

    def add_norm(
        self, at: str, stack: Stack, x: Doubles, sublayer: Callable[[Doubles], Run]
    ) -> Run:
        """residual_norm(x + output_norm(sublayer(input_norm(x)))), with the norms that are there
        (Vaswani et al. 2017, 5.4; Xiong et al. 2020).
        """

        def norm(place: str, h: Doubles) -> Run:
            there = stack.norm if place in stack.norm_places else None
            return self.norm(f"{at}.{place}", there, h)

        read = yield from norm("input", x)
        written = yield from sublayer(read)
        written = yield from norm("output", written)
        added = yield f"{at}.added", x + written
        return (yield from norm("residual", added))

    def norm(self, at: str, norm: Norm | None, x: Doubles) -> Run:
        """(x - mean) / scale * (weight + offset) + bias over the last axis; RMSNorm has neither
        mean nor bias.
        """
        if norm is None:
            return x
        mean = None
        if norm.kind == "layer":
            mean = (yield f"{at}.mean", equations.mean(x)[..., None])[..., 0]
        scale = (yield f"{at}.scale", equations.deviation(x, mean, norm.eps)[..., None])[..., 0]
        normalized = yield f"{at}.normalized", equations.normalize(x, mean, scale)
        weight, bias = self.weights[f"{at}.weight"], self.weights.get(f"{at}.bias")
        return (yield f"{at}.output", equations.gain(normalized, weight, bias, norm.offset))

    def attention(self, name: str, number: int, x: Doubles, past: Past) -> Run:
        """Every position of x (T, dim) looks at those the mask lets it see (Vaswani et al. 2017,
        3.2), by absolute position.
        """
        stack, attention = self.config.stacks[name], self.config.stacks[name].attention
        at = f"{self.prefix(name)}layers.{number}.attention"
        local = attention.local
        if local is not None and number not in local.layers:
            local = None
        positions = np.arange(past.length, past.length + len(x))
        query = yield from self.query(at, attention, x)
        key, value = yield from self.keys_values(at, attention, x)
        rope = attention.rope if local is None else local.rope or attention.rope
        if rope is not None:
            turned = equations.rotate(query.swapaxes(0, 1), positions, rope)
            query = yield f"{at}.query_rotated", turned.swapaxes(0, 1)
            turned = equations.rotate(key.swapaxes(0, 1), positions, rope)
            key = yield f"{at}.key_rotated", turned.swapaxes(0, 1)
        key, value = past.extend(at, key, value)
        keys = np.arange(key.shape[1])
        scores = yield from self.scores(at, attention, query, key)
        if attention.relative is not None:
            away, two_sided = np.subtract.outer(keys, positions).T, stack.mask == "full"
            bucket = equations.bucket(away, attention.relative, two_sided)
            table = f"{self.prefix(name)}position_bias.weight"
            bias = np.moveaxis(self.rows(table, bucket), -1, 0)  # (T, S, H) -> (H, T, S)
            scores = scores + (yield f"{at}.position_bias", bias)
        window = None if local is None else local.window
        hidden = equations.hidden(stack.mask, positions, keys, window)
        scores = yield f"{at}.scores", np.where(hidden, -np.inf, scores)
        pattern = np.where(hidden, 0.0, equations.softmax(scores))
        return (yield from self.mix(at, pattern, value))

    def cross_attention(self, at: str, attention: Attention, x: Doubles, past: Past) -> Run:
        """Every position of x (T, dim) looks at the whole of the encoder's output."""
        query = yield from self.query(at, attention, x)
        if at not in past.looked_at:
            assert past.memory is not None, "cross-attention without an encoder's output"
            past.looked_at[at] = yield from self.keys_values(at, attention, past.memory)
        key, value = past.looked_at[at]
        scores = yield from self.scores(at, attention, query, key)
        scores = yield f"{at}.scores", scores
        return (yield from self.mix(at, equations.softmax(scores), value))

    def query(self, at: str, attention: Attention, x: Doubles) -> Run:
        """x (T, dim) -> (H, T, D)"""
        query = _split(self.linear(f"{at}.query", x), attention.head_dim)
        query = yield f"{at}.query", query
        return (yield from self.norm(f"{at}.query_norm", attention.qk_norm, query))

    def keys_values(self, at: str, attention: Attention, x: Doubles) -> Steps[KeysValues]:
        """x (S, dim) -> key and value, (KV, S, D) each"""
        key = yield f"{at}.key", _split(self.linear(f"{at}.key", x), attention.head_dim)
        key = yield from self.norm(f"{at}.key_norm", attention.qk_norm, key)
        value = yield f"{at}.value", _split(self.linear(f"{at}.value", x), attention.head_dim)
        return key, value

    def scores(self, at: str, attention: Attention, query: Doubles, key: Doubles) -> Run:
        """(H, T, D) and (KV, S, D) -> (H, T, S), scaled; neither biased nor masked yet"""
        products = yield f"{at}.products", equations.products(query, key)
        return products * attention.scale

    def mix(self, at: str, pattern: Doubles, value: Doubles) -> Run:
        """(H, T, S) and (KV, S, D) -> what attention writes (T, dim)"""
        pattern = yield f"{at}.pattern", pattern
        mixed = yield f"{at}.mixed", equations.weighted_sum(pattern, value)
        joined = mixed.swapaxes(0, 1).reshape(mixed.shape[1], -1)
        return (yield f"{at}.output", self.linear(f"{at}.output", joined))

    def feedforward(self, at: str, feedforward: FeedForward, x: Doubles) -> Run:
        """down(f(up x)), gated down(f(gate x) * up x) (Shazeer 2020): (T, dim) -> (T, dim)"""
        bend = equations.activation(feedforward.activation)
        if feedforward.gated:
            gate = yield f"{at}.gate", self.linear(f"{at}.gate", x)
        up = yield f"{at}.up", self.linear(f"{at}.up", x)
        inner = yield f"{at}.activated", bend(gate if feedforward.gated else up)
        if feedforward.gated:
            inner = yield f"{at}.product", inner * up
        return (yield f"{at}.output", self.linear(f"{at}.down", inner))

    def final_norm(self, name: str, x: Doubles) -> Run:
        stack = self.config.stacks[name]
        norm = stack.norm if stack.final_norm else None
        return self.norm(f"{self.prefix(name)}final_norm", norm, x)

    def head(self, x: Doubles) -> Run:
        """Last vectors (T, dim) -> logits (T, vocab)"""
        head = self.config.head
        assert head is not None, "no head"
        if head.transform is not None:
            x = yield "head.projected", self.linear("head.transform", x)
            x = yield "head.activated", equations.activation(head.transform)(x)
            x = yield from self.norm("head.norm", head.norm, x)
            x = yield "head.transformed", x
        table = self.weights[self.tokens if head.tied else "head.weight"]
        logits = equations.linear(x, table) * head.scale
        if head.bias:
            logits = logits + wide(self.weights["head.bias"])
        return (yield "head.logits", logits)

    def pooler(self, x: Doubles) -> Run:
        """tanh(dense(x[0])) of last vectors (T, dim) -> (dim,) (Devlin et al. 2019)"""
        projected = yield "pooler.projected", self.linear("pooler.dense", x[0])
        return (yield "pooler.pooled", np.tanh(projected))

    def linear(self, at: str, x: Doubles) -> Doubles:
        return equations.linear(x, self.weights[f"{at}.weight"], self.weights.get(f"{at}.bias"))

    def rows(self, table: str, index: Sequence[int] | equations.Integers) -> Doubles:
        return wide(self.weights[table][np.asarray(index)])


def _split(x: Doubles, head_dim: int) -> Doubles:
    """(T, heads * D) -> (heads, T, D)"""
    return x.reshape(len(x), -1, head_dim).swapaxes(0, 1)
