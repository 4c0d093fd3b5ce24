"""The sites that the native model can show: their names in order of computation, its own numbers
for them, and the shape that a tap gives their values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lucidlm.config import Attention, Config, Norm, Stack

Floats = NDArray[np.float32]


def ragged(flat: Floats, counts: Sequence[int], filler: float = 0.0) -> Floats:
    """(tokens, ...) -> (rows, longest, ...), `counts` tokens a row, `filler` behind its end."""
    if min(counts) == max(counts):  # nothing behind any end, and nothing to copy
        return flat.reshape(len(counts), counts[0], *flat.shape[1:])
    found = np.full((len(counts), max(counts), *flat.shape[1:]), filler, np.float32)
    at = 0
    for row, count in enumerate(counts):
        found[row, :count] = flat[at : at + count]
        at += count
    return found


@dataclass(frozen=True)
class NativeSite:
    """One site. `number` is the native module's; None for those of cross-attention's keys and
    values and of the pooler, which it does not compute as it goes.
    """

    path: str
    name: str
    number: int | None
    heads: int = 0  # 0: not by head
    width: int = 0  # numbers of a position (and head); 0: as many as there are keys

    @property
    def address(self) -> str:
        return f"{self.path}.{self.name}"

    def room(self, rows: int, span: int) -> Floats:
        """An array for all rows of a call, the native module's way round."""
        return np.zeros((rows, max(1, self.heads) * (self.width or span)), np.float32)

    def shaped(self, flat: Floats, counts: Sequence[int], keys: int) -> Floats:
        """What a tap gives: (rows of the batch, longest, width), or (rows, heads, longest, width or
        keys); zeros behind a row's end, and -inf in its scores.
        """
        parts = flat.reshape(len(flat), max(1, self.heads), -1)[..., : self.width or keys]
        found = ragged(parts, counts, -np.inf if self.name == "scores" else 0.0)
        return found.swapaxes(1, 2) if self.heads else found[:, :, 0]


@dataclass(frozen=True)
class Sites:
    """Those of one stack: before its layers, by layer, and behind them."""

    embedding: tuple[NativeSite, ...]
    layers: tuple[tuple[NativeSite, ...], ...]
    final: tuple[NativeSite, ...]

    @property
    def all(self) -> Iterator[NativeSite]:
        yield from self.embedding
        for layer in self.layers:
            yield from layer
        yield from self.final


def stack_sites(config: Config, name: str, module: Any) -> Sites:
    """The sites of the stack called `name`."""
    stack = config.stacks[name]
    at = f"{name}." if len(config.stacks) > 1 else ""
    numbers = _Numbers(module)
    embedding, dim = config.embedding, config.dim
    first = ["tokens"]
    first += ["segments"] if embedding.segments else []
    first += ["positions"] if embedding.positions != "none" else []
    begin = [numbers.whole(at, f"embedding.{each}", dim) for each in [*first, "sum"]]
    begin += _norm(numbers.whole, at, "embedding.norm", embedding.norm, dim)
    layers = tuple(
        tuple(_layer(numbers, f"{at}layers.{i}.", i, stack, dim)) for i in range(stack.layers)
    )
    final = _norm(numbers.whole, at, "final_norm", stack.norm if stack.final_norm else None, dim)
    return Sites(tuple(begin), layers, tuple(final))


def head_sites(config: Config, module: Any) -> list[NativeSite]:
    """The head's."""
    head, dim, numbers = config.head, config.dim, _Numbers(module)
    if head is None:
        return []
    found = []
    if head.transform is not None:
        found = [numbers.whole("", f"head.{each}", dim) for each in ("projected", "activated")]
        found += _norm(numbers.whole, "", "head.norm", head.norm, dim)
        found.append(numbers.whole("", "head.transformed", dim))
    return [*found, numbers.whole("", "head.logits", config.vocab_size)]


def pooler_sites(config: Config) -> list[NativeSite]:
    """The pooler's, which are computed for who looks."""
    names = ("projected", "pooled") if config.pooler else ()
    return [NativeSite("pooler", name, None, width=config.dim) for name in names]


class _Numbers:
    """The native module's numbers by name."""

    def __init__(self, module: Any) -> None:
        self.layers, self.wholes = _tables(module)

    def whole(self, at: str, name: str, width: int, heads: int = 0) -> NativeSite:
        path, _, leaf = f"{at}{name}".rpartition(".")
        return NativeSite(path, leaf, self.wholes[name], heads, width)

    def layer(self, layer: int, at: str, name: str, width: int, heads: int = 0) -> NativeSite:
        path, _, leaf = f"{at}{name}".rpartition(".")
        number = len(self.wholes) + layer * len(self.layers) + self.layers[name]
        return NativeSite(path, leaf, number, heads, width)


@cache
def _tables(module: Any) -> tuple[dict[str, int], dict[str, int]]:
    return (
        {name: number for number, name in enumerate(module.layer_sites())},
        {name: number for number, name in enumerate(module.whole_sites())},
    )


def _norm(
    make: Any, at: str, name: str, norm: Norm | None, width: int, heads: int = 0
) -> list[NativeSite]:
    if norm is None:
        return []
    found = [make(at, f"{name}.mean", 1, heads)] if norm.kind == "layer" else []
    found.append(make(at, f"{name}.scale", 1, heads))
    return found + [make(at, f"{name}.{each}", width, heads) for each in ("normalized", "output")]


def _layer(numbers: _Numbers, at: str, slot: int, stack: Stack, dim: int) -> Iterator[NativeSite]:
    def make(at: str, name: str, width: int, heads: int = 0) -> NativeSite:
        return numbers.layer(slot, at, name, width, heads)

    def norm(name: str, place: str) -> list[NativeSite]:
        there = stack.norm if place in stack.norm_places else None
        return _norm(make, at, f"{name}.{place}", there, dim)

    def around(name: str, inner: list[NativeSite], residual: str) -> Iterator[NativeSite]:
        yield from norm(name, "input")
        yield from inner
        yield from norm(name, "output")
        yield make(at, f"{name}.added", dim)
        yield from norm(name, "residual")
        yield make(at, residual, dim)

    local = stack.attention.local
    near = local is not None and slot in local.layers
    turned = ((local.rope if near and local else None) or stack.attention.rope) is not None
    yield make(at, "residual_in", dim)
    inner = _attention(make, at, "attention", stack.attention, dim, turned)
    yield from around("attention_norm", inner, "residual_mid")
    if stack.cross is not None:
        inner = _attention(make, at, "cross_attention", stack.cross, dim, False)
        yield from around("cross_attention_norm", inner, "residual_cross")
    feedforward = stack.feedforward
    names = ["gate", "up", "activated", "product"] if feedforward.gated else ["up", "activated"]
    inside = [make(at, f"feedforward.{name}", feedforward.hidden) for name in names]
    yield from around(
        "feedforward_norm", [*inside, make(at, "feedforward.output", dim)], "residual_out"
    )


def _attention(
    make: Any, at: str, name: str, a: Attention, dim: int, turned: bool
) -> list[NativeSite]:
    """In the order of `model.attention`."""
    crosses = name == "cross_attention"

    def one(leaf: str, heads: int, width: int) -> NativeSite:
        site: NativeSite = make(at, f"{name}.{leaf}", width, heads)
        return site

    def read(leaf: str) -> NativeSite:  # of what is looked at
        if crosses:
            return NativeSite(f"{at}{name}", leaf, None, a.kv_heads, a.head_dim)
        return one(leaf, a.kv_heads, a.head_dim)

    found = [one("query", a.heads, a.head_dim)]
    found += _norm(make, at, f"{name}.query_norm", a.qk_norm, a.head_dim, a.heads)
    found.append(read("key"))
    if not crosses:
        found += _norm(make, at, f"{name}.key_norm", a.qk_norm, a.head_dim, a.kv_heads)
    found.append(read("value"))
    if turned:
        found.append(one("query_rotated", a.heads, a.head_dim))
        found.append(one("key_rotated", a.kv_heads, a.head_dim))
    found.append(one("products", a.heads, 0))
    if a.relative is not None and not crosses:
        found.append(one("position_bias", a.heads, 0))
    found += [one("scores", a.heads, 0), one("pattern", a.heads, 0)]
    found.append(one("mixed", a.heads, a.head_dim))
    return [*found, make(at, f"{name}.output", dim)]
