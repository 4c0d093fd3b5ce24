"""What a family is: how a published format maps to `Config` and to our parameter addresses, both
ways. Data only.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from lucidlm.config import MAX_LAYERS, Activation, Attention, Config, Rope
from lucidlm.errors import ConfigError, nearest

HF = dict[str, Any]  # a parsed config.json


@dataclass(frozen=True)
class Rule:
    """One tensor of theirs and the parameter, or parameters, of ours that it is. `{i}` is the
    layer.

    Every step is lossless and has an inverse: split by rows, transpose, un-interleave rotary rows,
    drop a leading axis. `minus_offset`: theirs is the weight minus what the norm adds back (ours -
    1 + config offset).
    """

    theirs: str
    ours: str | tuple[str, ...]
    also: tuple[
        str, ...
    ] = ()  # names of tied copies: read where the first is absent, else passed over
    transpose: bool = False
    interleaved: Literal["", "heads", "kv_heads"] = ""
    leading_axis: bool = False
    minus_offset: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    def layer(self, i: int) -> Rule:
        """This rule for layer i."""

        def at(name: str) -> str:
            return name.replace("{i}", str(i))

        return replace(
            self,
            theirs=at(self.theirs),
            ours=tuple(map(at, self.parts)),
            also=tuple(map(at, self.also)),
        )


class GGUFFile(Protocol):
    """What a family needs of an open GGUF file."""

    @property
    def metadata(self) -> Mapping[str, Any]: ...

    @property
    def names(self) -> Sequence[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str) -> Any: ...


class Metadata:
    """One architecture's keys of a GGUF file (`llama.block_count` as "block_count")."""

    def __init__(self, file: GGUFFile) -> None:
        self.metadata = file.metadata
        self.architecture: str = file.metadata["general.architecture"]

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number; missing without a default is an error."""
        return whole(key, self.get(key, default), self.architecture)

    def real(self, key: str, default: float | None = None) -> float:
        """A number above 0; missing without a default is an error."""
        return positive(key, self.get(key, default), self.architecture)

    def get(self, key: str, default: Any = None) -> Any:
        return self.metadata.get(f"{self.architecture}.{key}", default)


@dataclass(frozen=True, kw_only=True)
class GGUF:
    """A family's GGUF side: loaded, never written."""

    architectures: tuple[str, ...]
    read: Callable[[GGUFFile], Config]
    rules: Callable[[str], tuple[Rule, ...]]  # by architecture
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Family:
    """A published format: config.json and tensor names there, `Config` and addresses here."""

    name: str
    model_types: tuple[str, ...]
    read: Callable[[HF], Config]
    write: Callable[[Config], HF]
    rules: Callable[[Config], tuple[Rule, ...]]  # those whose parameter the config has are used
    prefix: str = ""  # of tensor names, absent where the bare model was saved
    ignored: tuple[
        str, ...
    ] = ()  # patterns of tensors that hold nothing learned, or nothing we run
    gguf: GGUF | None = None
    presets: Mapping[str, HF] = field(default_factory=dict)
    tiny: Mapping[str, HF] = field(
        default_factory=dict
    )  # small configs for the golden test, by what is special


# Keys of every config.json that say nothing about the architecture.
COMMON = frozenset(
    """
    _name_or_path _num_labels unsloth_fixed unsloth_version force_bos_token_to_be_generated
    architectures auto_map bos_token_id chunk_size_feed_forward dtype eos_token_id id2label
    label2id is_encoder_decoder model_type pad_token_id problem_type return_dict torch_dtype
    transformers_version use_cache output_attentions output_hidden_states output_past
    initializer_range attention_dropout decoder_start_token_id forced_bos_token_id
    forced_eos_token_id bad_words_ids num_beams max_length min_length length_penalty
    early_stopping no_repeat_ngram_size task_specific_params tokenizer_class
    gradient_checkpointing prefix sep_token_id cls_token_id mask_token_id unk_token_id torchscript
    finetuning_task num_labels transformers.js_config _attn_implementation_autoset pruned_heads
    use_bfloat16 tf_legacy_loss is_decoder add_cross_attention cross_attention_hidden_size
    remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
    temperature top_k top_p typical_p do_sample repetition_penalty encoder_no_repeat_ngram_size
    num_return_sequences num_beam_groups diversity_penalty output_scores return_dict_in_generate
    tie_encoder_decoder
    """.split()
)

# A config is a file like any other, and may lie: nothing is counted out before it has been checked.
LARGEST = 1 << 53
LAYER_COUNTS = frozenset(
    """
    num_hidden_layers n_layer num_layers num_decoder_layers encoder_layers decoder_layers
    block_count
    """.split()
)

ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
}


class Keys:
    """A config.json being read: each key is taken once, and what nobody took is an error in
    `finish`.
    """

    def __init__(self, hf: HF, family: str) -> None:
        self.hf, self.family = hf, family
        self.taken: set[str] = set(COMMON)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of `key`; `default` where the file says nothing or null."""
        self.taken.add(key)
        value = self.hf.get(key)
        return default if value is None else value

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number; missing without a default is an error."""
        return whole(key, self.take(key, default), self.family)

    def real(self, key: str, default: float | None = None) -> float:
        """A number above 0; missing without a default is an error."""
        return positive(key, self.take(key, default), self.family)

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.unknown(key, value, "true, false")
        return value

    def table(self, key: str) -> HF:
        """An object; empty where there is none."""
        value = self.take(key, {})
        if not isinstance(value, dict):
            raise self.unknown(key, value, "{...}")
        return value

    def kinds(self, layers: int) -> list[str] | None:
        """`layer_types`: which layers slide and which see everything; None where not said."""
        value = self.take("layer_types")
        known = ("sliding_attention", "full_attention")
        if value is not None:
            if not isinstance(value, list) or len(value) != layers:
                raise self.unknown("layer_types", value, f"{layers} × {known}")
            if other := [kind for kind in value if kind not in known]:
                raise self.unknown("layer_types", other[0], ", ".join(known))
            return [str(kind) for kind in value]
        return None

    def unknown(self, key: str, value: object, known: str) -> ConfigError:
        """The error for a value that this family has nothing for."""
        shown = reprlib.repr(value)
        return ConfigError("families.value", key=key, value=shown, family=self.family, known=known)

    def activation(self, key: str, default: str) -> Activation:
        name = self.take(key, default)
        if not isinstance(name, str) or name not in ACTIVATIONS:
            raise self.unknown(key, name, ", ".join(sorted(ACTIVATIONS)))
        return ACTIVATIONS[name]

    def only(self, key: str, *supported: object) -> None:
        """`key` may be absent or one of `supported`: another value is an architecture that we do
        not have.
        """
        if self.take(key, supported[0]) not in supported:
            raise self.unknown(key, self.hf[key], ", ".join(map(repr, supported)))

    def ignore(self, *keys: str) -> None:
        """Keys that concern training, or repeat what others say."""
        self.taken.update(keys)

    def finish(self) -> None:
        for key in self.hf:
            if key not in self.taken:
                near = ", ".join(nearest(key, self.taken - COMMON))
                raise ConfigError("families.unknown_key", key=key, family=self.family, nearest=near)


def whole(key: str, value: object, family: str) -> int:
    """`value` as a whole number that a model's size can be, or ConfigError."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        raise ConfigError("families.number", key=key, value=reprlib.repr(value), family=family)
    if key in LAYER_COUNTS and value > MAX_LAYERS:
        raise ConfigError("config.layers", layers=value, most=MAX_LAYERS)
    return value


def multi_head(dim: int, heads: int) -> Attention:
    """Attention as in 2017: each head has its share of `dim`, and everything has a bias."""
    if dim < 1 or heads < 1 or dim % heads:
        raise ConfigError("families.heads", dim=dim, heads=heads)
    head_dim = dim // heads
    return Attention(
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        bias=True,
        output_bias=True,
    )


def positive(key: str, value: object, family: str) -> float:
    """`value` as a number above 0, or ConfigError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < LARGEST:
        raise ConfigError("families.real", key=key, value=reprlib.repr(value), family=family)
    return float(value)


def read_rope(parameters: HF, base: float, family: str) -> Rope:
    """A `rope_scaling` or `rope_parameters` object of config.json."""
    keys = Keys(parameters, family)
    base = keys.real("rope_theta", base)
    kind = keys.take("rope_type", keys.take("type", "default"))
    if kind == "default":
        return Rope(base=base)
    if kind == "linear":
        return Rope(base=base, scaling="linear", factor=keys.real("factor"))
    if kind == "llama3":
        return Rope(
            base=base,
            scaling="llama3",
            factor=keys.real("factor"),
            low_factor=keys.real("low_freq_factor"),
            high_factor=keys.real("high_freq_factor"),
            original_positions=keys.number("original_max_position_embeddings"),
        )
    raise keys.unknown("rope_type", kind, "default, linear, llama3")


def write_rope(rope: Rope) -> HF:
    """The `rope_parameters` object that `read_rope` reads."""
    theirs: HF = {
        "rope_theta": rope.base,
        "rope_type": "default" if rope.scaling == "none" else rope.scaling,
    }
    if rope.scaling != "none":
        theirs["factor"] = rope.factor
    if rope.scaling == "llama3":
        theirs["low_freq_factor"] = rope.low_factor
        theirs["high_freq_factor"] = rope.high_factor
        theirs["original_max_position_embeddings"] = rope.original_positions
    return theirs


def norm_rules(theirs: str, ours: str, *, minus_offset: bool = False) -> tuple[Rule, ...]:
    """Weight and bias of a norm or a linear layer: the same two names under another prefix."""
    return tuple(
        Rule(f"{theirs}.{x}", f"{ours}.{x}", minus_offset=minus_offset) for x in ("weight", "bias")
    )


linear_rules = norm_rules
