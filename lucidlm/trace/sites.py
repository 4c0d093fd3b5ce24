"""The catalogue: every site of a model, from its `Config` alone, in order of computation.

The rows are in `lucidlm.trace.rows`; `catalogue` lays them out over a model's stacks and layers
and binds each to the operation that makes it. An engine that rounds vectors before it multiplies
them has a site more at each such place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from lucidlm.config import Attention, Config, Norm, Rope, Stack
from lucidlm.engine import EXACT, Rounding
from lucidlm.trace.operations import (
    Add,
    BiasTable,
    Copy,
    Deviation,
    Dot,
    Gain,
    HeadOutputs,
    Linear,
    Lookup,
    Mean,
    Multiply,
    Normalize,
    Operation,
    Rotate,
    SamplingStage,
    ScaleAndMask,
    Sinusoid,
    Softmax,
    TokenizerStage,
    Unary,
    WeightedSum,
)
from lucidlm.trace.rounded import Rounded
from lucidlm.trace.rows import LOOKS, ROWS
from lucidlm.trace.site import Length, Site
from lucidlm.trace.stacks import prefixes


def catalogue(
    config: Config | None, rounding: Mapping[str, Rounding] = EXACT
) -> Mapping[str, Site]:
    """Every site by address, in order of computation; without a config those of any model.
    `rounding` is the engine's.
    """
    return _catalogue(config, frozenset(rounding.items()))


@lru_cache(maxsize=8)
def _catalogue(
    config: Config | None, rounding: frozenset[tuple[str, Rounding]]
) -> Mapping[str, Site]:
    return MappingProxyType({site.address: site for site in _sites(config, dict(rounding))})


def is_causal(site: Site, sites: Mapping[str, Site]) -> bool:
    """Whether a site's cells have a query and a key of one sequence, and later keys are hidden."""
    scores = sites.get(f"{site.address.rpartition('.')[0]}.scores")
    mask = scores.operation if scores is not None and site.axes == LOOKS else None
    return isinstance(mask, ScaleAndMask) and mask.mask != "full"


def _sites(config: Config | None, rounding: Mapping[str, Rounding]) -> Iterator[Site]:
    for stage in ("text", "normalized", "pretokens", "merges", "pieces", "bytes", "ids", "spans"):
        sizes: tuple[int | Length, ...] = ("positions",) if ROWS[f"tokenizer.{stage}"].axes else ()
        yield Site(
            address=f"tokenizer.{stage}",
            key=f"tokenizer.{stage}",
            sizes=sizes,
            operation=TokenizerStage(stage),
            part="tokenizer",
        )
    words = 0
    if config is not None:
        yield from _Layout(config, Rounded(rounding)).model()
        words = config.vocab_size
        if config.head is None or config.decoder is None:
            return
    for stage in ("logits", "penalised", "scaled", "kept", "probabilities", "cdf", "draw", "id"):
        key = f"sampling.{stage}"
        size: tuple[int | Length, ...] = ("positions", words)
        sizes = size if len(ROWS[key].axes) == 2 else size[:1]
        operation = SamplingStage(stage, "head.logits" if config is not None else None)
        yield Site(address=key, key=key, sizes=sizes, operation=operation, part="sampling")


@dataclass(frozen=True)
class _Layout:
    """One model's sites."""

    config: Config
    rounded: Rounded

    def model(self) -> Iterator[Site]:
        config, last = self.config, ""
        for at, stack in prefixes(config).items():
            length: Length = "sources" if at == "encoder." else "positions"
            walk = _StackLayout(config, stack, at, length, last, self.rounded)
            yield from walk.sites()
            last = walk.last
        if config.head is not None:
            yield from self.head(last)
        if config.pooler:
            weight = "pooler.dense.weight"
            operation: Operation = Linear(last, weight, "pooler.dense.bias", first_only=True)
            sizes = (config.dim,)
            yield _site("pooler", "pooler", "projected", sizes, operation, "pooler")
            operation = Unary("pooler.projected", "tanh")
            yield _site("pooler", "pooler", "pooled", sizes, operation, "pooler")

    def head(self, last: str) -> Iterator[Site]:
        config, head = self.config, self.config.head
        assert head is not None
        sizes: tuple[int | Length, ...] = ("positions", config.dim)
        rounded, noun = self.rounded, "rounded"
        if head.transform is not None:
            weight = "head.transform.weight"
            read = yield from rounded(weight, last, "head", noun, sizes, "head")
            noun = "rounded_transformed"
            operation: Operation = Linear(read, weight, "head.transform.bias")
            yield _site("head", "head", "projected", sizes, operation, "head")
            operation = Unary("head.projected", head.transform)
            yield _site("head", "head", "activated", sizes, operation, "head")
            last = "head.activated"
            if head.norm is not None:
                yield from _norm("head.norm", head.norm, last, sizes, "head")
                last = "head.norm.output"
            yield _site("head", "head", "transformed", sizes, Copy(last), "head")
            last = "head.transformed"
        first = "encoder." if len(config.stacks) > 1 else ""  # the table stands there once
        weight = f"{first}embedding.tokens.weight" if head.tied else "head.weight"
        bias = "head.bias" if head.bias else None
        read = yield from rounded(weight, last, "head", noun, sizes, "head", scale=head.scale)
        # what is rounded was scaled before
        operation = Linear(read, weight, bias, scale=head.scale if read == last else 1.0)
        words: tuple[int | Length, ...] = ("positions", config.vocab_size)
        yield _site("head", "head", "logits", words, operation, "head")


class _StackLayout:
    """One stack's sites; `last` is the address of the newest one that the next reads."""

    def __init__(
        self,
        config: Config,
        stack: Stack,
        at: str,
        length: Length,
        memory: str,
        rounded: Rounded,
    ) -> None:
        self.config, self.stack, self.at, self.length = config, stack, at, length
        self.rounded = rounded
        self.memory = memory  # what cross-attention looks at
        self.vector: tuple[int | Length, ...] = (length, config.dim)
        self.last = ""

    def sites(self) -> Iterator[Site]:
        yield from self.embedding()
        for layer in range(self.stack.layers):
            yield from self.layer(layer)
        if self.stack.final_norm:
            at = f"{self.at}final_norm"
            yield from _norm(at, self.stack.norm, self.last, self.vector, at)
            self.last = f"{at}.output"

    def embedding(self) -> Iterator[Site]:
        embedding, at = self.config.embedding, f"{self.at}embedding"
        # both stacks of two read one token table, which the first one names
        table = "encoder.embedding" if len(self.config.stacks) > 1 else at
        ids = f"{self.at}ids"
        operation: Operation = Lookup(f"{table}.tokens.weight", ids, scale=embedding.scale)
        yield _site(at, "embedding", "tokens", self.vector, operation, at)
        terms = [f"{at}.tokens"]
        if embedding.segments:
            operation = Lookup(f"{at}.segments.weight", f"{self.at}segments")
            yield _site(at, "embedding", "segments", self.vector, operation, at)
            terms.append(f"{at}.segments")
        if embedding.positions != "none":
            learned = embedding.positions == "learned"
            operation = (
                Lookup(
                    f"{at}.positions.weight",
                    None,
                    offset=embedding.position_offset,
                    like=terms[0],
                )
                if learned
                else Sinusoid(terms[0])
            )
            key = "embedding.positions" if learned else "embedding.sinusoids"
            yield Site(
                address=f"{at}.positions",
                key=key,
                sizes=self.vector,
                operation=operation,
                part=at,
            )
            terms.append(f"{at}.positions")
        operation = Add(tuple(terms)) if len(terms) > 1 else Copy(terms[0])
        yield _site(at, "embedding", "sum", self.vector, operation, at)
        self.last = f"{at}.sum"
        if embedding.norm is not None:
            yield from _norm(f"{at}.norm", embedding.norm, self.last, self.vector, at)
            self.last = f"{at}.norm.output"

    def layer(self, layer: int) -> Iterator[Site]:
        at = f"{self.at}layers.{layer}"
        yield self.residual(at, "residual_in")
        local = self.stack.attention.local
        windowed = local is not None and layer in local.layers
        yield from self.add_norm(at, "attention", _Look(self.stack.attention, windowed))
        yield self.residual(at, "residual_mid")
        if self.stack.cross is not None:
            yield from self.add_norm(at, "cross_attention", _Look(self.stack.cross, False, True))
            yield self.residual(at, "residual_cross")
        yield from self.add_norm(at, "feedforward", None)
        yield self.residual(at, "residual_out")

    def residual(self, at: str, noun: str) -> Site:
        site = _site(at, "layer", noun, self.vector, Copy(self.last), at)
        self.last = site.address
        return site

    def add_norm(self, layer: str, sublayer: str, look: _Look | None) -> Iterator[Site]:
        """x = residual(x + output(sublayer(input(x))))"""
        at, places, before = f"{layer}.{sublayer}_norm", self.stack.norm_places, self.last
        norm, vector = self.stack.norm, self.vector
        read = before
        if "input" in places:
            yield from _norm(f"{at}.input", norm, read, vector, layer)
            read = f"{at}.input.output"
        if look is None:
            yield from self.feedforward(layer, read)
        else:
            yield from self.attention(layer, sublayer, read, look)
        written = f"{layer}.{sublayer}.output"
        if "output" in places:
            yield from _norm(f"{at}.output", norm, written, vector, layer)
            written = f"{at}.output.output"
        yield _site(at, "add_norm", "added", vector, Add((before, written)), layer)
        self.last = f"{at}.added"
        if "residual" in places:
            yield from _norm(f"{at}.residual", norm, self.last, vector, layer)
            self.last = f"{at}.residual.output"

    def attention(self, layer: str, name: str, read: str, look: _Look) -> Iterator[Site]:
        at, attention = f"{layer}.{name}", look.attention
        seen: Length = "sources" if look.memory else self.length
        seen_from = self.memory if look.memory else read
        heads, kv_heads, size = attention.heads, attention.kv_heads, attention.head_dim
        asks: tuple[int | Length, ...] = (self.length, heads, size)
        answers: tuple[int | Length, ...] = (seen, kv_heads, size)
        looks: tuple[int | Length, ...] = (heads, self.length, seen)
        group = heads // kv_heads

        remembered: tuple[int | Length, ...] = (seen, self.config.dim)

        def linear(noun: str, source: str, of: str = "rounded") -> Iterator[Site]:
            bias = f"{at}.{noun}.bias" if attention.bias else None
            weight = f"{at}.{noun}.weight"
            shape = remembered if of == "rounded_memory" else self.vector
            read = yield from self.rounded(weight, source, at, of, shape, layer)
            sizes = asks if noun == "query" else answers
            yield site(noun, sizes, Linear(read, weight, bias, head_dim=size))

        def site(noun: str, sizes: tuple[int | Length, ...], operation: Operation) -> Site:
            return _site(at, "attention", noun, sizes, operation, layer)

        q, k = f"{at}.query", f"{at}.key"
        from_memory = "rounded_memory" if look.memory else "rounded"
        yield from linear("query", read)
        if attention.qk_norm is not None:
            yield from _norm(f"{at}.query_norm", attention.qk_norm, q, asks, layer)
            q = f"{at}.query_norm.output"
        yield from linear("key", seen_from, from_memory)
        if attention.qk_norm is not None:
            yield from _norm(f"{at}.key_norm", attention.qk_norm, k, answers, layer)
            k = f"{at}.key_norm.output"
        yield from linear("value", seen_from, from_memory)
        rope = look.rope
        if rope is not None:
            yield site("query_rotated", asks, Rotate(q, rope))
            yield site("key_rotated", answers, Rotate(k, rope))
            q, k = f"{at}.query_rotated", f"{at}.key_rotated"
        yield site("products", looks, Dot(q, k, group))
        bias = None
        relative = attention.relative
        if relative is not None and not look.memory:
            table = f"{self.at}position_bias.weight"
            two_sided = self.stack.mask == "full"
            bias = f"{at}.position_bias"
            yield site(
                "position_bias", looks, BiasTable(table, relative, two_sided, f"{at}.products")
            )
        mask = "full" if look.memory else self.stack.mask
        operation = ScaleAndMask(f"{at}.products", attention.scale, bias, mask, look.window)
        yield site("scores", looks, operation)
        yield site("pattern", looks, Softmax(f"{at}.scores"))
        yield site("mixed", asks, WeightedSum(f"{at}.pattern", f"{at}.value", group))
        weight, mixed = f"{at}.output.weight", f"{at}.mixed"
        mixed = yield from self.rounded(weight, mixed, at, "rounded_mixed", asks, layer)
        yield Site(
            address=f"{at}.head_outputs",
            key="attention.head_outputs",
            sizes=(self.length, heads, self.config.dim),
            operation=HeadOutputs(mixed, weight),
            part=layer,
            derived=True,
        )
        output_bias = f"{at}.output.bias" if attention.output_bias else None
        yield site("output", self.vector, Linear(mixed, weight, output_bias, joins=True))

    def feedforward(self, layer: str, read: str) -> Iterator[Site]:
        at, feedforward = f"{layer}.feedforward", self.stack.feedforward
        wide: tuple[int | Length, ...] = (self.length, feedforward.hidden)

        def linear(noun: str, name: str, source: str) -> Iterator[Site]:
            bias = f"{at}.{name}.bias" if feedforward.bias else None
            weight = f"{at}.{name}.weight"
            of, sizes = ("rounded_inner", wide) if name == "down" else ("rounded", self.vector)
            read = yield from self.rounded(weight, source, at, of, sizes, layer)
            yield site(noun, Linear(read, weight, bias))

        def site(noun: str, operation: Operation) -> Site:
            sizes = self.vector if noun == "output" else wide
            return _site(at, "feedforward", noun, sizes, operation, layer)

        if feedforward.gated:
            yield from linear("gate", "gate", read)
        yield from linear("up", "up", read)
        bent = "gate" if feedforward.gated else "up"
        yield site("activated", Unary(f"{at}.{bent}", feedforward.activation))
        inner = f"{at}.activated"
        if feedforward.gated:
            yield site("product", Multiply(inner, f"{at}.up"))
            inner = f"{at}.product"
        yield from linear("output", "down", inner)


@dataclass(frozen=True)
class _Look:
    """One kind of attention: over everything, over a window, or over the encoder's output."""

    attention: Attention
    windowed: bool
    memory: bool = False

    @property
    def window(self) -> int | None:
        local = self.attention.local
        return local.window if local is not None and self.windowed else None

    @property
    def rope(self) -> Rope | None:
        local = self.attention.local
        own = local.rope if local is not None and self.windowed else None
        return None if self.memory else own or self.attention.rope


def _norm(
    at: str, norm: Norm, source: str, sizes: tuple[int | Length, ...], part: str
) -> Iterator[Site]:
    """A norm over the last of `sizes`."""
    outer, mean = sizes[:-1], f"{at}.mean" if norm.kind == "layer" else None
    key = "norm" if norm.kind == "layer" else "rms"
    if len(sizes) == 3:
        key = f"head_{key}"
    if mean is not None:
        yield _site(at, key, "mean", outer, Mean(source), part)
    yield _site(at, key, "scale", outer, Deviation(source, mean, norm.eps), part)
    operation: Operation = Normalize(source, mean, f"{at}.scale")
    yield _site(at, key, "normalized", sizes, operation, part)
    bias = f"{at}.bias" if norm.kind == "layer" else None
    operation = Gain(f"{at}.normalized", f"{at}.weight", bias, norm.offset)
    yield _site(at, key, "output", sizes, operation, part)


def _site(
    at: str, group: str, noun: str, sizes: tuple[int | Length, ...], operation: Operation, part: str
) -> Site:
    return Site(
        address=f"{at}.{noun}", key=f"{group}.{noun}", sizes=sizes, operation=operation, part=part
    )
