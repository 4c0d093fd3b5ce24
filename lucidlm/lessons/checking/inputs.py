"""Real inputs: what flows through two small models while they read a sentence, in the style of the
2017 Transformer ("original") and of Llama ("modern").

Numbers are rounded to float32 and held in float64, so that NumPy and PyTorch get the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from lucidlm.config import Attention, Config, Embedding, FeedForward, Head, Norm, Rope, Stack
from lucidlm.engine import ForwardContext
from lucidlm.lessons.checking.attention import Array
from lucidlm.parameters import parameters
from lucidlm.reference.engine import Reference
from lucidlm.reference.equations import Doubles

Style = Literal["original", "modern"]
DIM, HEADS, HIDDEN, WORDS = 12, 3, 20, 31
IDS = (7, 0, 19, 7, 30, 2)
BASE = 10000.0


@dataclass(frozen=True, eq=False)
class Passing:
    """Weights and sites of one forward pass over `IDS`, by address, for one sequence."""

    config: Config
    weights: Mapping[str, Doubles]
    sites: Mapping[str, Doubles]


@cache
def passing(style: Style) -> Passing:
    """Run the small model of this style and keep everything."""
    config = _config(style)
    rng = np.random.default_rng({"original": 1, "modern": 2}[style])
    weights = {
        address: _weight(rng, address, shape) for address, shape in parameters(config).items()
    }
    sites: dict[str, Doubles] = {}

    def keep(path: str, name: str, value: Any) -> Any:
        sites[f"{path}.{name}"] = singles(value[0])
        return value

    ctx = ForwardContext(tracer=keep, every_position=True)
    Reference(config, weights.items()).step([IDS], ctx)
    return Passing(config, weights, sites)


def singles(values: Any) -> Doubles:
    """Values that float32 holds exactly, in float64."""
    return np.asarray(values, np.float32).astype(np.float64)


def layer_params(number: int) -> dict[str, Any]:
    """What `decoder_layer` is given: layer `number` of the original, matrices to multiply from the
    right.
    """
    model = passing("original")
    at, weights = f"layers.{number}", model.weights
    names = {"query": "w_q", "key": "w_k", "value": "w_v", "output": "w_o"}
    params: dict[str, Any] = {
        short: weights[f"{at}.attention.{name}.weight"].T for name, short in names.items()
    }
    for way in ("up", "down"):
        params[f"w_{way}"] = weights[f"{at}.feedforward.{way}.weight"].T
        params[f"b_{way}"] = weights[f"{at}.feedforward.{way}.bias"]
    for ours, theirs in (("attention", "attention"), ("feedforward", "feed_forward")):
        for kind in ("weight", "bias"):
            params[f"{theirs}_norm_{kind}"] = weights[f"{at}.{ours}_norm.residual.{kind}"]
    decoder = model.config.decoder
    assert decoder is not None
    return params | {"heads": HEADS, "eps": decoder.norm.eps}


def causal(length: int) -> Array:
    """(length, length), True where a key is ahead of its query."""
    return np.triu(np.ones((length, length), bool), 1)


def _config(style: Style) -> Config:
    original = style == "original"
    head_dim = DIM // HEADS
    attention = Attention(
        heads=HEADS,
        kv_heads=HEADS,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        rope=None if original else Rope(base=BASE),
    )
    feedforward = FeedForward(
        hidden=HIDDEN,
        activation="relu" if original else "silu",
        gated=not original,
        bias=original,
    )
    stack = Stack(
        layers=2,
        attention=attention,
        feedforward=feedforward,
        norm=Norm(kind="layer" if original else "rms"),
        norm_places=("residual",) if original else ("input",),
        mask="causal",
        final_norm=not original,
    )
    embedding = Embedding(positions="sinusoidal" if original else "none")
    return Config(
        dim=DIM,
        vocab_size=WORDS,
        max_positions=64,
        embedding=embedding,
        decoder=stack,
        head=Head(),
    )


def _weight(rng: np.random.Generator, address: str, shape: tuple[int, ...]) -> Doubles:
    """Matrices that keep the size of what they are multiplied with; norms around 1, biases around
    0.
    """
    drawn = rng.standard_normal(shape)
    if len(shape) == 2:
        words = address == "embedding.tokens.weight"
        return singles(drawn * (0.7 if words else 1.5 / np.sqrt(shape[1])))
    centre = 1.0 if "norm" in address and address.endswith("weight") else 0.0
    return singles(centre + 0.4 * drawn)
