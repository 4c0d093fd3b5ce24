"""Every architectural choice of a Transformer, as nested frozen dataclasses.

Which kind of model it is follows from which `Stack` is there: decoder only (GPT-2, Llama, Gemma),
encoder only (BERT), or both (the 2017 Transformer, T5, BART, Marian). Kinds are composed, numbers
are configured; no model's name appears here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lucidlm.errors import ConfigError

Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"]
MaskKind = Literal["full", "causal", "strict"]
NormPlace = Literal["input", "output", "residual"]
MAX_LAYERS = 1_000


@dataclass(frozen=True, kw_only=True)
class Norm:
    """LayerNorm (Ba et al. 2016) or RMSNorm (Zhang & Sennrich 2019).

    `offset` is added to the stored weight before it scales: 1.0 in Gemma, whose weights are stored
    as w - 1.
    """

    kind: Literal["layer", "rms"] = "layer"
    eps: float = 1e-5
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary position embedding (Su et al. 2021): dimension pair i of a head turns by position *
    base^(-2i/d).

    `factor` divides the frequencies: all of them ("linear"), or by wavelength ("llama3", where
    wavelengths under original_positions / high_factor stay, those over original_positions /
    low_factor are divided, and the rest blend).
    """

    base: float = 10000.0
    scaling: Literal["none", "linear", "llama3"] = "none"
    factor: float = 1.0
    low_factor: float = 1.0
    high_factor: float = 4.0
    original_positions: int = 8192


@dataclass(frozen=True, kw_only=True)
class RelativeBias:
    """T5's learned bias on the scores by bucketed distance (Raffel et al. 2020): one table, shared
    by all layers.
    """

    buckets: int = 32
    max_distance: int = 128


@dataclass(frozen=True, kw_only=True)
class Local:
    """Layers that see only the last `window` positions, with a RoPE of their own where `rope` is
    given.
    """

    layers: tuple[int, ...]
    window: int
    rope: Rope | None = None


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Multi-head attention (Vaswani et al. 2017, 3.2); fewer `kv_heads` than `heads` is
    grouped-query attention.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    bias: bool = False  # on query, key and value
    output_bias: bool = False
    rope: Rope | None = None
    relative: RelativeBias | None = None
    qk_norm: Norm | None = None  # over each head's query and key, before the rotation
    local: Local | None = None


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """down(activation(up x)), or gated (Shazeer 2020): down(activation(gate x) * up x)."""

    hidden: int
    activation: Activation
    gated: bool = False
    bias: bool = False


@dataclass(frozen=True, kw_only=True)
class Stack:
    """`layers` equal layers. Each sublayer is x = residual_norm(x +
    output_norm(sublayer(input_norm(x)))) with norms at `norm_places` only: ("input",) is pre-norm,
    ("residual",) post-norm, ("input", "output") Gemma's sandwich.
    """

    layers: int
    attention: Attention
    feedforward: FeedForward
    norm: Norm
    norm_places: tuple[NormPlace, ...]
    mask: MaskKind
    cross: Attention | None = None  # to the encoder's output, between the other two sublayers
    final_norm: bool = False


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Token id to vector, plus position: table[id] * scale (+ positions) (+ segments), then norm
    where there is one.

    "sinusoidal" is [sin | cos] side by side, as in the code released with the 2017 paper; the
    formula it prints interleaves the two, the same up to a fixed order of the dimensions.
    """

    positions: Literal["none", "learned", "sinusoidal"] = "none"
    position_offset: int = 0  # BART's tables begin with two unused rows
    segments: int = 0  # BERT's token types
    scale: float = 1.0
    norm: Norm | None = None


@dataclass(frozen=True, kw_only=True)
class Head:
    """Last vector to one logit per word: scale * x @ table^T (+ bias). `transform` puts a dense
    layer, this activation and `norm` before it (BERT); `tied` uses the token table for the
    product.
    """

    tied: bool = True
    bias: bool = False
    scale: float = 1.0
    transform: Activation | None = None
    norm: Norm | None = None


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole model. At least one stack; `head` None gives vectors only (sentence encoders)."""

    dim: int
    vocab_size: int
    max_positions: int
    embedding: Embedding
    encoder: Stack | None = None
    decoder: Stack | None = None
    head: Head | None = None
    pooler: bool = False  # BERT's tanh(dense(first vector))

    def __post_init__(self) -> None:
        if self.encoder is None and self.decoder is None:
            raise ConfigError("config.no_stack")
        for field in ("dim", "vocab_size", "max_positions"):
            _positive(field, getattr(self, field))
        for name, stack in self.stacks.items():
            _check(name, stack, self)

    @property
    def stacks(self) -> dict[str, Stack]:
        """The stacks that are there, by name, encoder first."""
        both = {"encoder": self.encoder, "decoder": self.decoder}
        return {name: stack for name, stack in both.items() if stack is not None}

    @property
    def kind(self) -> Literal["decoder", "encoder", "encoder-decoder"]:
        if self.encoder is None:
            return "decoder"
        return "encoder" if self.decoder is None else "encoder-decoder"


def _check(name: str, stack: Stack, config: Config) -> None:
    _positive(f"{name}.layers", stack.layers)
    if stack.layers > MAX_LAYERS:  # a config is a file like any other, and may lie
        raise ConfigError("config.layers", layers=stack.layers, most=MAX_LAYERS)
    _positive(f"{name}.feedforward.hidden", stack.feedforward.hidden)
    for attention in filter(None, (stack.attention, stack.cross)):
        for field in ("heads", "kv_heads", "head_dim"):
            _positive(f"{name}.attention.{field}", getattr(attention, field))
        if attention.heads % attention.kv_heads:
            raise ConfigError("config.kv_heads", heads=attention.heads, kv_heads=attention.kv_heads)
        if attention.rope is not None and attention.head_dim % 2:
            raise ConfigError("config.odd_rope", head_dim=attention.head_dim)
        if attention.local is not None:
            _positive(f"{name}.attention.local.window", attention.local.window)
    if stack.cross is not None and config.encoder is None:
        raise ConfigError("config.cross_without_encoder")
    if name == "encoder" and stack.mask != "full":
        raise ConfigError("config.encoder_mask", mask=stack.mask)
    if config.embedding.positions == "sinusoidal" and config.dim % 2:
        raise ConfigError("config.odd_sinusoidal", dim=config.dim)


def _positive(field: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ConfigError("config.not_positive", field=field, value=value)
