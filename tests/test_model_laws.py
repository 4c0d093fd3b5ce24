"""Laws that hold for every Transformer, whatever its weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from golden import CASES, VOCAB, difference, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from lucidlm.config import (
    Attention,
    Config,
    Embedding,
    FeedForward,
    Head,
    Local,
    Norm,
    RelativeBias,
    Rope,
    Stack,
)
from lucidlm.count import count
from lucidlm.engine import ForwardContext
from lucidlm.errors import ConfigError
from lucidlm.model.attention import Sight, attend, may_not_see
from lucidlm.model.engine import TorchEngine, build
from lucidlm.model.position import rotate, rotation
from lucidlm.model.transformer import Transformer
from lucidlm.parameters import parameters

norms = st.builds(
    Norm,
    kind=st.sampled_from(["layer", "rms"]),
    eps=st.sampled_from([1e-6, 1e-3]),
    offset=st.sampled_from([0.0, 1.0]),
)


@st.composite
def attentions(draw: Any, layers: int, cross: bool = False) -> Attention:
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rope = draw(st.sampled_from([None, Rope(base=100.0), Rope(scaling="linear", factor=2.0)]))
    head_dim = 2 * draw(st.integers(1, 4))
    window = Local(layers=(0,), window=draw(st.integers(1, 4)), rope=rope and Rope(base=50.0))
    return Attention(
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        bias=draw(st.booleans()),
        output_bias=draw(st.booleans()),
        rope=None if cross else rope,
        relative=None if cross else draw(st.sampled_from([None, RelativeBias(buckets=6)])),
        qk_norm=draw(st.none() | norms),
        local=None if cross else draw(st.sampled_from([None, window])),
    )


@st.composite
def stacks(draw: Any, mask: str, cross: bool) -> Stack:
    layers = draw(st.integers(1, 2))
    return Stack(
        layers=layers,
        attention=draw(attentions(layers)),
        cross=draw(attentions(layers, cross=True)) if cross else None,
        feedforward=FeedForward(
            hidden=draw(st.integers(1, 9)),
            activation=draw(
                st.sampled_from(["relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"])
            ),
            gated=draw(st.booleans()),
            bias=draw(st.booleans()),
        ),
        norm=draw(norms),
        norm_places=draw(
            st.sampled_from([("input",), ("residual",), ("input", "output"), (), ("output",)])
        ),
        mask=mask,
        final_norm=draw(st.booleans()),
    )


@st.composite
def configs(draw: Any) -> Config:
    kind = draw(st.sampled_from(["decoder", "encoder", "encoder-decoder"]))
    mask = draw(st.sampled_from(["causal", "strict"]))
    return Config(
        dim=2 * draw(st.integers(1, 8)),
        vocab_size=draw(st.integers(2, 20)),
        max_positions=32,
        embedding=Embedding(
            positions=draw(st.sampled_from(["none", "learned", "sinusoidal"])),
            position_offset=draw(st.sampled_from([0, 2])),
            segments=draw(st.sampled_from([0, 2])),
            scale=draw(st.sampled_from([1.0, 3.0])),
            norm=draw(st.none() | norms),
        ),
        encoder=draw(stacks("full", False)) if "encoder" in kind else None,
        decoder=draw(stacks(mask, kind == "encoder-decoder")) if "decoder" in kind else None,
        head=Head(
            tied=draw(st.booleans()),
            bias=draw(st.booleans()),
            scale=draw(st.sampled_from([1.0, 0.5])),
            transform=draw(st.sampled_from([None, "gelu"])),
            norm=draw(st.none() | norms),
        ),
        pooler=draw(st.booleans()),
    )


def random_engine(config: Config, seed: int = 0) -> TorchEngine:
    numbers = torch.Generator().manual_seed(seed)
    shapes = parameters(config).items()
    weights = ((name, torch.randn(shape, generator=numbers) * 0.4) for name, shape in shapes)
    arrays = ((name, weight.double().numpy()) for name, weight in weights)
    return build(config, arrays, "float64")  # without norms, float32 rounds too soon to compare


def logits(engine: TorchEngine, rows: list[list[int]], source: list[int] | None) -> torch.Tensor:
    ctx = ForwardContext(cache=engine.cache(len(rows)), every_position=True)
    if source is not None:
        engine.encode([source] * len(rows), ctx)
    return torch.from_numpy(engine.step(rows, ctx))


@given(configs())
@settings(max_examples=150)
def test_count_and_parameters_are_those_on_the_meta_device(config: Config) -> None:
    with torch.device("meta"):
        model = Transformer(config)
    shapes = {name: tuple(weight.shape) for name, weight in model.weights().items()}
    assert shapes == parameters(config)
    assert count(config).parameters == sum(weight.numel() for weight in model.parameters())


@given(configs(), st.data())
@settings(max_examples=60)
def test_cached_is_uncached_and_the_past_is_fixed(config: Config, data: Any) -> None:
    """For random architectures: any chunking gives the same logits, and what comes later changes
    nothing before it."""
    if config.decoder is None:
        return
    engine = random_engine(config)
    ids = data.draw(st.lists(st.integers(0, config.vocab_size - 1), min_size=2, max_size=9))
    source = ids[::-1] if config.encoder is not None else None
    whole = logits(engine, [ids], source)[0]

    cut = data.draw(st.integers(1, len(ids) - 1))
    ctx = ForwardContext(cache=engine.cache(1), every_position=True)
    if source is not None:
        engine.encode([source], ctx)
    parts = [torch.from_numpy(engine.step([p], ctx))[0] for p in (ids[:cut], ids[cut:])]
    assert difference(torch.cat(parts), whole) < 1e-6

    other = ids.copy()
    other[cut] = (other[cut] + 1) % config.vocab_size
    changed = logits(engine, [other], source)[0]
    assert difference(changed[:cut], whole[:cut]) < 1e-6


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_watching_changes_nothing(family: str, shape: str) -> None:
    """Bit for bit the same with every tap seen; and all sites of the list are seen."""
    case = golden(family, shape)
    if case.checkpoint.config.head is None:
        pytest.skip("no head")
    engine, seen = case.engine(), set()

    def watch(path: str, name: str, value: torch.Tensor) -> torch.Tensor:
        seen.add(f"{path}.{name}")
        return value

    rows = case.ids.tolist()
    outputs = []
    for tracer in (None, watch, None):
        ctx = ForwardContext(cache=engine.cache(2), tracer=tracer)
        if case.source is not None:
            engine.encode(case.source.tolist(), ctx)
        outputs.append(torch.from_numpy(engine.step(rows, ctx)))
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
    assert seen == set(engine.sites)


def test_a_tracer_may_replace_a_value() -> None:
    case = golden("llama", "llama 3")
    engine = case.engine()

    def silence(path: str, name: str, value: torch.Tensor) -> torch.Tensor:
        return value * 0 if (path, name) == ("layers.1.attention", "mixed") else value

    plain = engine.step(case.ids.tolist(), ForwardContext())
    edited = engine.step(case.ids.tolist(), ForwardContext(tracer=silence))
    assert not (plain == edited).all()
    value = engine.model.decoder.layers[1].attention.output.weight
    with torch.inference_mode():
        value.zero_()
    assert (engine.step(case.ids.tolist(), ForwardContext()) == edited).all()


@pytest.mark.parametrize(("family", "shape"), [(f, s) for f, s in CASES if f != "bert"])
def test_replay_of_a_layer_is_the_layer(family: str, shape: str) -> None:
    case = golden(family, shape)
    engine, seen = case.engine(), {}

    def keep(path: str, name: str, value: torch.Tensor) -> torch.Tensor:
        seen[f"{path}.{name}"] = value
        return value

    ctx = ForwardContext(cache=engine.cache(2), tracer=keep)
    if case.source is not None:
        engine.encode(case.source.tolist(), ctx)
    engine.step(case.ids.tolist(), ctx)
    stack = "decoder." if case.source is not None else ""
    for layer in (f"{stack}layers.0", *(["encoder.layers.1"] if case.source is not None else [])):
        if f"{layer}.residual_in" not in seen:
            continue
        ins, outs = (seen[f"{layer}.{x}"] for x in ("residual_in", "residual_out"))
        again = engine.replay(layer, ins.numpy(), replace(ctx, tracer=None))
        torch.testing.assert_close(torch.from_numpy(again), outs, rtol=1e-5, atol=1e-5)


def test_cache_fork_select_truncate() -> None:
    case = golden("gemma", "local and global")
    engine, rows = case.engine(), case.ids.tolist()
    ctx = ForwardContext(cache=engine.cache(2))
    engine.step([row[:6] for row in rows], ctx)
    fork = ctx.cache.fork()
    first = engine.step([[5], [6]], ctx)
    engine.step([[9], [9]], ForwardContext(cache=fork))  # must not be seen by the other
    second = engine.step([[7], [8]], ctx)

    ctx.cache.truncate(6)
    assert ctx.cache.lengths == [6, 6]
    assert (engine.step([[5], [6]], ctx) == first).all()
    assert (engine.step([[7], [8]], ctx) == second).all()

    ctx.cache.truncate(6)
    swapped = ForwardContext(cache=ctx.cache.select([1, 0, 1]))
    again = engine.step([[6], [5], [6]], swapped)
    assert difference(torch.from_numpy(again), torch.from_numpy(first[[1, 0, 1]])) < 1e-6


@pytest.mark.parametrize("kind", ["causal", "strict", "full"])
def test_pattern_rows(kind: str) -> None:
    """Rows of the pattern sum to 1; a row that sees nothing yields zeros."""
    positions = torch.arange(5)[None]
    hidden = may_not_see(kind, positions, positions, torch.tensor([5]), None)
    q, k, v = (torch.randn(1, 2, 5, 4) for _ in range(3))
    seen = {}
    mixed = attend(q, k, v, 0.5, Sight(hidden), lambda name, x: seen.setdefault(name, x))
    sums = seen["pattern"].sum(-1)
    wanted = torch.ones(1, 2, 5)
    if kind == "strict":
        wanted[..., 0] = 0
        assert not mixed[..., 0, :].any()
    torch.testing.assert_close(sums, wanted)
    assert not seen["pattern"].masked_select(hidden).any()
    masked = {"causal": 10, "strict": 15, "full": 0}[kind]
    assert int(hidden.sum()) == masked


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_rotated_products_depend_on_distance_alone(a: int, b: int, shift: int) -> None:
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64, generator=torch.Generator())

    def product(i: int, j: int) -> float:
        at = [rotation(Rope(), torch.tensor([[p]]), 16, torch.float64) for p in (i, j)]
        return (rotate(q, at[0]) * rotate(k, at[1])).sum().item()

    assert math.isclose(product(a, b), product(a + shift, b + shift), abs_tol=1e-9)


def test_grouped_queries_are_repeated_keys() -> None:
    """Grouped-query attention equals multi-head attention with each key/value head repeated."""
    q, k, v = torch.randn(2, 6, 3, 4), torch.randn(2, 2, 3, 4), torch.randn(2, 2, 3, 4)
    sight = Sight(torch.zeros(2, 1, 3, 3, dtype=torch.bool))

    def tap(name: str, x: torch.Tensor) -> torch.Tensor:
        return x

    many = [x.repeat_interleave(3, dim=1) for x in (k, v)]
    torch.testing.assert_close(attend(q, k, v, 1, sight, tap), attend(q, *many, 1, sight, tap))


@pytest.mark.parametrize(
    ("family", "shape"), [next(c for c in CASES if c[0] == f) for f in dict(CASES)]
)
@pytest.mark.slow
def test_compiles_as_one_graph(family: str, shape: str) -> None:
    """Off, on, off: one graph each, with the same numbers. Taps that pass a value on put nothing
    into a graph, and without a watcher there is no more in it than with one.
    """
    case = golden(family, shape)
    engine, nodes = case.engine(), []
    kept: dict[str, torch.Tensor] = {}

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        nodes.append([node.target for node in graph.graph.nodes if node.op != "output"])
        return graph.forward

    def keep(path: str, name: str, value: torch.Tensor) -> torch.Tensor:
        kept[f"{path}.{name}"] = value
        return value

    def run(ctx: ForwardContext) -> torch.Tensor:
        return engine.model(case.ids, ctx, case.source)

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend=count)
    with torch.inference_mode():
        plain = run(ForwardContext())
        for tracer in (None, lambda path, name, value: value, None, keep, None):
            assert difference(compiled(ForwardContext(tracer=tracer)), plain) < 1e-6
    off, passed_on, recorded = nodes  # the calls without a tracer after the first found its graph
    assert off == passed_on == recorded
    assert set(kept) == set(engine.sites)


def test_impossible_configs_say_why() -> None:
    config = golden("llama", "llama 3").checkpoint.config
    assert config.decoder is not None
    attention = config.decoder.attention

    def with_attention(**changes: Any) -> Config:
        stack = replace(config.decoder, attention=replace(attention, **changes))
        return replace(config, decoder=stack)

    for make, words in (
        (lambda: with_attention(kv_heads=3), "multiple"),
        (lambda: with_attention(head_dim=7), "even"),
        (lambda: replace(config, dim=0), "dim"),
        (lambda: replace(config, decoder=None), "encoder, a decoder"),
        (lambda: replace(config, decoder=replace(config.decoder, layers=10**9)), "layers"),
        (lambda: replace(config, decoder=replace(config.decoder, cross=attention)), "encoder"),
    ):
        with pytest.raises(ConfigError, match=words) as error:
            make()
        assert error.value.message("zh") != error.value.message("en")
    assert VOCAB == config.vocab_size
