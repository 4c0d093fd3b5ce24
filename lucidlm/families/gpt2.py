"""GPT-2 and GPT-3: pre-norm, learned positions, biases everywhere, a tied head (Radford et al.
2019; Brown et al. 2020).
"""

from __future__ import annotations

from typing import Any

from lucidlm.config import Config, Embedding, FeedForward, Head, Norm, Stack
from lucidlm.families.family import (
    GGUF,
    HF,
    Family,
    GGUFFile,
    Keys,
    Metadata,
    Rule,
    linear_rules,
    multi_head,
    norm_rules,
)


def build(
    dim: int,
    layers: int,
    heads: int,
    hidden: int,
    positions: int,
    vocab: int,
    eps: float,
    **kinds: Any,
) -> Config:
    """The one shape that all sizes share."""
    return Config(
        dim=dim,
        vocab_size=vocab,
        max_positions=positions,
        embedding=Embedding(positions="learned"),
        decoder=Stack(
            layers=layers,
            attention=multi_head(dim, heads),
            feedforward=FeedForward(
                hidden=hidden, activation=kinds.get("activation", "gelu_tanh"), bias=True
            ),
            norm=Norm(kind="layer", eps=eps),
            norm_places=("input",),
            mask="causal",
            final_norm=True,
        ),
        head=Head(tied=kinds.get("tied", True)),
    )


def read(hf: HF) -> Config:
    keys = Keys(hf, "gpt2")
    dim = keys.number("n_embd")
    keys.only("scale_attn_weights", True)
    keys.only("add_cross_attention", False)
    keys.only("scale_attn_by_inverse_layer_idx", False)
    keys.ignore(
        "reorder_and_upcast_attn",
        "attn_pdrop",
        "embd_pdrop",
        "resid_pdrop",
        "n_ctx",
        "layer_norm_eps",
    )
    keys.ignore(
        *(
            f"summary_{x}"
            for x in ("activation", "first_dropout", "proj_to_labels", "type", "use_proj")
        )
    )
    config = build(
        dim,
        keys.number("n_layer"),
        keys.number("n_head"),
        keys.number("n_inner", 4 * dim),
        keys.number("n_positions", 1024),
        keys.number("vocab_size"),
        keys.real("layer_norm_epsilon", 1e-5),
        activation=keys.activation("activation_function", "gelu_new"),
        tied=keys.flag("tie_word_embeddings", True),
    )
    keys.finish()
    return config


def write(config: Config) -> HF:
    stack = config.decoder
    assert stack is not None and config.head is not None
    names = {"gelu_tanh": "gelu_new"}
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": config.dim,
        "n_layer": stack.layers,
        "n_head": stack.attention.heads,
        "n_inner": stack.feedforward.hidden,
        "n_positions": config.max_positions,
        "vocab_size": config.vocab_size,
        "layer_norm_epsilon": stack.norm.eps,
        "activation_function": names.get(
            stack.feedforward.activation, stack.feedforward.activation
        ),
        "tie_word_embeddings": config.head.tied,
    }


def read_gguf(file: GGUFFile) -> Config:
    keys = Metadata(file)
    dim = keys.number("embedding_length")
    return build(
        dim,
        keys.number("block_count"),
        keys.number("attention.head_count"),
        keys.number("feed_forward_length", 4 * dim),
        keys.number("context_length"),
        file.shape("token_embd.weight")[0],
        keys.real("attention.layer_norm_epsilon"),
        tied="output.weight" not in file.names,
    )


QKV = tuple(f"layers.{{i}}.attention.{x}" for x in ("query", "key", "value"))


def rules(config: Config) -> tuple[Rule, ...]:
    h = "transformer.h.{i}"
    return (
        Rule("transformer.wte.weight", "embedding.tokens.weight", also=("lm_head.weight",)),
        Rule("transformer.wpe.weight", "embedding.positions.weight"),
        *norm_rules(f"{h}.ln_1", "layers.{i}.attention_norm.input"),
        Rule(f"{h}.attn.c_attn.weight", tuple(f"{x}.weight" for x in QKV), transpose=True),
        Rule(f"{h}.attn.c_attn.bias", tuple(f"{x}.bias" for x in QKV)),
        Rule(f"{h}.attn.c_proj.weight", "layers.{i}.attention.output.weight", transpose=True),
        Rule(f"{h}.attn.c_proj.bias", "layers.{i}.attention.output.bias"),
        *norm_rules(f"{h}.ln_2", "layers.{i}.feedforward_norm.input"),
        Rule(f"{h}.mlp.c_fc.weight", "layers.{i}.feedforward.up.weight", transpose=True),
        Rule(f"{h}.mlp.c_fc.bias", "layers.{i}.feedforward.up.bias"),
        Rule(f"{h}.mlp.c_proj.weight", "layers.{i}.feedforward.down.weight", transpose=True),
        Rule(f"{h}.mlp.c_proj.bias", "layers.{i}.feedforward.down.bias"),
        *norm_rules("transformer.ln_f", "final_norm"),
        Rule("lm_head.weight", "head.weight"),
    )


def gguf_rules(architecture: str) -> tuple[Rule, ...]:
    block = "blk.{i}"
    return (
        Rule("token_embd.weight", "embedding.tokens.weight"),
        Rule("position_embd.weight", "embedding.positions.weight"),
        *norm_rules(f"{block}.attn_norm", "layers.{i}.attention_norm.input"),
        Rule(f"{block}.attn_qkv.weight", tuple(f"{x}.weight" for x in QKV)),
        Rule(f"{block}.attn_qkv.bias", tuple(f"{x}.bias" for x in QKV)),
        *linear_rules(f"{block}.attn_output", "layers.{i}.attention.output"),
        *norm_rules(f"{block}.ffn_norm", "layers.{i}.feedforward_norm.input"),
        *linear_rules(f"{block}.ffn_up", "layers.{i}.feedforward.up"),
        *linear_rules(f"{block}.ffn_down", "layers.{i}.feedforward.down"),
        *norm_rules("output_norm", "final_norm"),
        Rule("output.weight", "head.weight"),
    )


def _size(layers: int, dim: int, heads: int, positions: int = 1024) -> HF:
    return {
        "model_type": "gpt2",
        "n_layer": layers,
        "n_embd": dim,
        "n_head": heads,
        "n_positions": positions,
        "vocab_size": 50257,
    }


_TINY: HF = {
    "model_type": "gpt2",
    "n_layer": 2,
    "n_embd": 32,
    "n_head": 4,
    "n_positions": 64,
    "vocab_size": 61,
    "bos_token_id": 0,
    "eos_token_id": 1,
}

FAMILY = Family(
    name="gpt2",
    model_types=("gpt2",),
    read=read,
    write=write,
    rules=rules,
    prefix="transformer.",
    ignored=(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",),
    gguf=GGUF(architectures=("gpt2",), read=read_gguf, rules=gguf_rules),
    presets={
        "gpt2": _size(12, 768, 12),
        "gpt2-medium": _size(24, 1024, 16),
        "gpt2-large": _size(36, 1280, 20),
        "gpt2-xl": _size(48, 1600, 25),
        # GPT-3's published sizes (Brown et al. 2020, table 2.1; 13B's printed width 5140 is 40
        # heads of 128 = 5120)
        "gpt3-125m": _size(12, 768, 12, 2048),
        "gpt3-350m": _size(24, 1024, 16, 2048),
        "gpt3-760m": _size(24, 1536, 16, 2048),
        "gpt3-1.3b": _size(24, 2048, 16, 2048),
        "gpt3-2.7b": _size(32, 2560, 32, 2048),
        "gpt3-6.7b": _size(32, 4096, 32, 2048),
        "gpt3-13b": _size(40, 5120, 40, 2048),
        "gpt3-175b": _size(96, 12288, 96, 2048),
    },
    tiny={
        "plain": {**_TINY, "n_positions": 1024},
        "odd heads": {**_TINY, "n_embd": 30, "n_head": 3, "n_inner": 50},
        "relu": {**_TINY, "activation_function": "relu", "layer_norm_epsilon": 1e-3},
        "untied": {**_TINY, "tie_word_embeddings": False},
    },
)
