"""Gemma 3: norms before and after each sublayer, weights stored as w - 1, embeddings scaled by
sqrt(dim), and five layers with a short window and their own rotary base for each that sees
everything (Gemma Team 2025).
"""

from __future__ import annotations

from math import sqrt

from lucidlm.config import (
    Activation,
    Attention,
    Config,
    Embedding,
    FeedForward,
    Head,
    Local,
    Norm,
    Rope,
    Stack,
)
from lucidlm.families.family import (
    GGUF,
    HF,
    Family,
    GGUFFile,
    Keys,
    Metadata,
    Rule,
    linear_rules,
    norm_rules,
    positive,
    read_rope,
    write_rope,
)
from lucidlm.families.llama import gguf_rules as llama_gguf_rules

LOCAL_BASE, GLOBAL_BASE, PATTERN = 10000.0, 1000000.0, 6  # every sixth layer sees everything


def build(
    dim: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    hidden: int,
    vocab: int,
    positions: int,
    *,
    norm: Norm,
    scale: float,
    rope: Rope,
    local: Local | None,
    bias: bool = False,
    tied: bool = True,
    activation: Activation = "gelu_tanh",
) -> Config:
    """The one shape that all sizes share."""
    return Config(
        dim=dim,
        vocab_size=vocab,
        max_positions=positions,
        embedding=Embedding(scale=sqrt(dim)),
        decoder=Stack(
            layers=layers,
            attention=Attention(
                heads=heads,
                kv_heads=kv_heads,
                head_dim=head_dim,
                scale=scale,
                bias=bias,
                output_bias=bias,
                rope=rope,
                qk_norm=norm,
                local=local,
            ),
            feedforward=FeedForward(hidden=hidden, activation=activation, gated=True),
            norm=norm,
            norm_places=("input", "output"),
            mask="causal",
            final_norm=True,
        ),
        head=Head(tied=tied),
    )


def read(hf: HF) -> Config:
    keys = Keys(hf, "gemma3")
    layers = keys.number("num_hidden_layers")
    keys.only("final_logit_softcapping", None)
    keys.only("attn_logit_softcapping", None)
    keys.only("use_bidirectional_attention", False)
    keys.ignore("_sliding_window_pattern", "cache_implementation", "hidden_act")
    ropes = Keys(keys.table("rope_parameters"), "gemma3")
    whole = ropes.table("full_attention") or keys.table("rope_scaling")
    near = ropes.table("sliding_attention")
    keys.ignore("rope_scaling")
    every = max(1, keys.number("sliding_window_pattern", PATTERN))
    kinds = keys.kinds(layers) or [
        "full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)
    ]
    sliding = tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
    config = build(
        keys.number("hidden_size"),
        layers,
        keys.number("num_attention_heads"),
        keys.number("num_key_value_heads"),
        keys.number("head_dim", 256),
        keys.number("intermediate_size"),
        keys.number("vocab_size"),
        keys.number("max_position_embeddings", 131072),
        norm=Norm(kind="rms", eps=keys.real("rms_norm_eps", 1e-6), offset=1.0),
        scale=keys.real("query_pre_attn_scalar", 256) ** -0.5,
        rope=read_rope(whole, keys.real("rope_theta", GLOBAL_BASE), "gemma3"),
        local=Local(
            layers=sliding,
            window=keys.number("sliding_window", 4096),
            rope=read_rope(near, keys.real("rope_local_base_freq", LOCAL_BASE), "gemma3"),
        )
        if sliding
        else None,
        bias=keys.flag("attention_bias", False),
        tied=keys.flag("tie_word_embeddings", True),
        activation=keys.activation("hidden_activation", "gelu_pytorch_tanh"),
    )
    keys.finish()
    return config


def write(config: Config) -> HF:
    stack = config.decoder
    assert stack is not None and config.head is not None
    attention, rope = stack.attention, stack.attention.rope
    assert rope is not None
    local = attention.local or Local(layers=(), window=4096, rope=Rope(base=LOCAL_BASE))
    names = {"gelu_tanh": "gelu_pytorch_tanh"}
    return {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "hidden_size": config.dim,
        "num_hidden_layers": stack.layers,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "intermediate_size": stack.feedforward.hidden,
        "hidden_activation": names.get(stack.feedforward.activation, stack.feedforward.activation),
        "max_position_embeddings": config.max_positions,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": stack.norm.eps,
        "query_pre_attn_scalar": round(attention.scale**-2),
        "attention_bias": attention.bias,
        "sliding_window": local.window,
        "layer_types": [
            "sliding_attention" if i in local.layers else "full_attention"
            for i in range(stack.layers)
        ],
        "rope_parameters": {
            "full_attention": write_rope(rope),
            "sliding_attention": write_rope(local.rope or rope),
        },
        "tie_word_embeddings": config.head.tied,
    }


def read_gguf(file: GGUFFile) -> Config:
    """The file's norms already contain the + 1, so `offset` is 0; the local base and the layer
    pattern are not in it.
    """
    keys = Metadata(file)
    layers, head_dim = keys.number("block_count"), keys.number("attention.key_length", 256)
    dim, heads = keys.number("embedding_length"), keys.number("attention.head_count")
    # 27B alone, known by its layers, scales by dim / heads; nothing in the file says so
    scaled = dim / max(heads, 1) if layers == 62 else head_dim
    rope = Rope(base=keys.real("rope.freq_base", GLOBAL_BASE))
    if keys.get("rope.scaling.type") == "linear":
        rope = Rope(base=rope.base, scaling="linear", factor=keys.real("rope.scaling.factor"))
    local = Local(
        layers=tuple(i for i in range(layers) if (i + 1) % PATTERN),
        window=keys.number("attention.sliding_window"),
        rope=Rope(base=LOCAL_BASE),
    )
    return build(
        dim,
        layers,
        heads,
        keys.number("attention.head_count_kv", heads),
        head_dim,
        keys.number("feed_forward_length"),
        file.shape("token_embd.weight")[0],
        keys.number("context_length"),
        norm=Norm(kind="rms", eps=keys.real("attention.layer_norm_rms_epsilon")),
        scale=positive("attention.key_length", scaled, "gemma3") ** -0.5,
        rope=rope,
        local=local,
        tied="output.weight" not in file.names,
    )


def rules(config: Config) -> tuple[Rule, ...]:
    layer = "model.layers.{i}"
    norms = (
        (f"{layer}.input_layernorm", "layers.{i}.attention_norm.input"),
        (f"{layer}.post_attention_layernorm", "layers.{i}.attention_norm.output"),
        (f"{layer}.pre_feedforward_layernorm", "layers.{i}.feedforward_norm.input"),
        (f"{layer}.post_feedforward_layernorm", "layers.{i}.feedforward_norm.output"),
        (f"{layer}.self_attn.q_norm", "layers.{i}.attention.query_norm"),
        (f"{layer}.self_attn.k_norm", "layers.{i}.attention.key_norm"),
        ("model.norm", "final_norm"),
    )
    return (
        Rule("model.embed_tokens.weight", "embedding.tokens.weight", also=("lm_head.weight",)),
        *(rule for theirs, ours in norms for rule in norm_rules(theirs, ours, minus_offset=True)),
        *linear_rules(f"{layer}.self_attn.q_proj", "layers.{i}.attention.query"),
        *linear_rules(f"{layer}.self_attn.k_proj", "layers.{i}.attention.key"),
        *linear_rules(f"{layer}.self_attn.v_proj", "layers.{i}.attention.value"),
        *linear_rules(f"{layer}.self_attn.o_proj", "layers.{i}.attention.output"),
        *linear_rules(f"{layer}.mlp.gate_proj", "layers.{i}.feedforward.gate"),
        *linear_rules(f"{layer}.mlp.up_proj", "layers.{i}.feedforward.up"),
        *linear_rules(f"{layer}.mlp.down_proj", "layers.{i}.feedforward.down"),
        Rule("lm_head.weight", "head.weight"),
    )


def gguf_rules(architecture: str) -> tuple[Rule, ...]:
    """Llama's names, and two norms more."""
    return (
        *llama_gguf_rules(architecture),
        *norm_rules("blk.{i}.post_attention_norm", "layers.{i}.attention_norm.output"),
        *norm_rules("blk.{i}.post_ffw_norm", "layers.{i}.feedforward_norm.output"),
    )


_GEMMA_270M: HF = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 18,
    "hidden_size": 640,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 2048,
    "vocab_size": 262144,
    "max_position_embeddings": 32768,
    "sliding_window": 512,
}
_TINY: HF = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 3,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "vocab_size": 61,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 8,
    "sliding_window": 5,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "bos_token_id": 0,
    "eos_token_id": 1,
}

FAMILY = Family(
    name="gemma",
    model_types=("gemma3_text",),
    read=read,
    write=write,
    rules=rules,
    prefix="model.",
    gguf=GGUF(architectures=("gemma3",), read=read_gguf, rules=gguf_rules),
    presets={
        "gemma-3-270m": _GEMMA_270M,
        "gemma-3-1b": {
            **_GEMMA_270M,
            "num_hidden_layers": 26,
            "hidden_size": 1152,
            "intermediate_size": 6912,
        },
    },
    tiny={
        "local and global": _TINY,
        "multi-head": {
            **_TINY,
            "num_key_value_heads": 4,
            "head_dim": 12,
            "query_pre_attn_scalar": 24,
        },
        "linear scaling": {
            **_TINY,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        },
    },
)
