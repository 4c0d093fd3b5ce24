"""Llama and its relatives: RMSNorm before, rotary positions, SwiGLU, grouped-query attention
(Touvron et al. 2023).

Mistral adds a sliding window, Qwen2 biases on query, key and value, Qwen3 norms on query and key;
SmolLM is Llama itself.
"""

from __future__ import annotations

from math import isclose, tau

from lucidlm.config import Attention, Config, Embedding, FeedForward, Head, Local, Norm, Rope, Stack
from lucidlm.errors import ConfigError
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
    read_rope,
    write_rope,
)


def read(hf: HF) -> Config:
    kind = hf["model_type"]
    keys = Keys(hf, kind)
    dim, layers, heads = (
        keys.number("hidden_size"),
        keys.number("num_hidden_layers"),
        keys.number("num_attention_heads"),
    )
    head_dim = keys.number("head_dim", 128 if kind == "qwen3" else dim // max(heads, 1))
    bias = keys.flag("attention_bias", False) if kind in ("llama", "qwen3") else kind == "qwen2"
    norm = Norm(kind="rms", eps=keys.real("rms_norm_eps", 1e-6))
    parameters = keys.table("rope_parameters") or keys.table("rope_scaling")
    rope = read_rope(parameters, keys.real("rope_theta", 10000.0), kind)
    keys.only("rope_interleaved", False)
    keys.only("use_mrope", False)
    keys.ignore("pretraining_tp", "rope_scaling", "is_llama_config", "max_sequence_length")
    config = Config(
        dim=dim,
        vocab_size=keys.number("vocab_size"),
        max_positions=keys.number("max_position_embeddings", 2048),
        embedding=Embedding(),
        decoder=Stack(
            layers=layers,
            attention=Attention(
                heads=heads,
                kv_heads=keys.number("num_key_value_heads", 8 if kind == "mistral" else heads),
                head_dim=head_dim,
                scale=keys.real("head_dim", head_dim) ** -0.5,
                bias=bias,
                output_bias=bias and kind != "qwen2",
                rope=rope,
                qk_norm=norm if kind == "qwen3" else None,
                local=_window(keys, kind, layers),
            ),
            feedforward=FeedForward(
                hidden=keys.number("intermediate_size"),
                activation=keys.activation("hidden_act", "silu"),
                gated=True,
                bias=keys.flag("mlp_bias", False),
            ),
            norm=norm,
            norm_places=("input",),
            mask="causal",
            final_norm=True,
        ),
        head=Head(tied=keys.flag("tie_word_embeddings", False)),
    )
    keys.finish()
    return config


def _window(keys: Keys, kind: str, layers: int) -> Local | None:
    """Which layers slide: all of Mistral's; in Qwen those named, or those from `max_window_layers`
    on, when asked to.
    """
    window = keys.take("sliding_window")
    asked = keys.flag("use_sliding_window", kind == "mistral")
    first = keys.number("max_window_layers", 0 if kind == "mistral" else 28)
    kinds = keys.kinds(layers)
    if window is None or not asked:
        return None
    if kinds is None:
        kinds = ["sliding_attention" if i >= first else "full_attention" for i in range(layers)]
    local = tuple(i for i, name in enumerate(kinds) if name == "sliding_attention")
    return Local(layers=local, window=keys.number("sliding_window")) if local else None


def write(config: Config) -> HF:
    stack = config.decoder
    assert stack is not None and config.head is not None
    attention, rope = stack.attention, stack.attention.rope
    assert rope is not None
    kind = _model_type(config)
    hf: HF = {
        "model_type": kind,
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "hidden_size": config.dim,
        "num_hidden_layers": stack.layers,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "intermediate_size": stack.feedforward.hidden,
        "hidden_act": stack.feedforward.activation,
        "max_position_embeddings": config.max_positions,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": stack.norm.eps,
        "rope_theta": rope.base,
        "rope_parameters": write_rope(rope),
        "tie_word_embeddings": config.head.tied,
    }
    if kind in ("llama", "qwen3"):
        hf["attention_bias"] = attention.bias
    if kind == "llama":
        hf["mlp_bias"] = stack.feedforward.bias
    if kind == "mistral":
        hf["sliding_window"] = attention.local.window if attention.local else None
    elif attention.local is not None:
        where = attention.local.layers
        hf |= {
            "use_sliding_window": True,
            "sliding_window": attention.local.window,
            "max_window_layers": min(where),
        }
        hf["layer_types"] = [
            "sliding_attention" if i in where else "full_attention" for i in range(stack.layers)
        ]
    return hf


def _model_type(config: Config) -> str:
    """The published name of this combination."""
    assert config.decoder is not None
    attention = config.decoder.attention
    if attention.qk_norm is not None:
        return "qwen3"
    if attention.bias and not attention.output_bias:
        return "qwen2"
    return "mistral" if attention.local is not None else "llama"


def read_gguf(file: GGUFFile) -> Config:
    keys = Metadata(file)
    dim, layers, heads = (
        keys.number("embedding_length"),
        keys.number("block_count"),
        keys.number("attention.head_count"),
    )
    head_dim = keys.number("attention.key_length", dim // max(heads, 1))
    norm = Norm(kind="rms", eps=keys.real("attention.layer_norm_rms_epsilon"))
    window = keys.number("attention.sliding_window", 0)
    return Config(
        dim=dim,
        vocab_size=file.shape("token_embd.weight")[0],
        max_positions=keys.number("context_length"),
        embedding=Embedding(),
        decoder=Stack(
            layers=layers,
            attention=Attention(
                heads=heads,
                kv_heads=keys.number("attention.head_count_kv", heads),
                head_dim=head_dim,
                scale=keys.real("attention.key_length", head_dim) ** -0.5,
                bias="blk.0.attn_q.bias" in file.names,
                output_bias="blk.0.attn_output.bias" in file.names,
                rope=read_gguf_rope(file, head_dim),
                qk_norm=norm if "blk.0.attn_q_norm.weight" in file.names else None,
                local=Local(layers=tuple(range(layers)), window=window) if window else None,
            ),
            feedforward=FeedForward(
                hidden=keys.number("feed_forward_length"), activation="silu", gated=True
            ),
            norm=norm,
            norm_places=("input",),
            mask="causal",
            final_norm=True,
        ),
        head=Head(tied="output.weight" not in file.names),
    )


def read_gguf_rope(file: GGUFFile, head_dim: int) -> Rope:
    """GGUF's rope keys. Llama 3's scaling is written as a tensor of divisors, the largest of which
    is its factor.
    """
    keys = Metadata(file)
    base, kind = keys.real("rope.freq_base", 10000.0), keys.get("rope.scaling.type", "none")
    if "rope_freqs.weight" in file.names:
        divisors = [float(x) for x in file.read("rope_freqs.weight")]
        rope = Rope(base=base, scaling="llama3", factor=max(divisors, default=1.0))
        expected = [_divisor(rope, base ** (-2 * i / head_dim)) for i in range(head_dim // 2)]
        if len(expected) == len(divisors) and all(
            isclose(a, b, rel_tol=1e-3) for a, b in zip(expected, divisors, strict=True)
        ):
            return rope
        raise ConfigError("families.rope_freqs")
    if kind == "none":
        return Rope(base=base)
    if kind == "linear":
        return Rope(base=base, scaling="linear", factor=keys.real("rope.scaling.factor"))
    raise ConfigError(
        "families.value", key="rope.scaling.type", value=kind, family="gguf", known="none, linear"
    )


def _divisor(rope: Rope, turn: float) -> float:
    """What llama3's scaling divides a frequency by (see `Rope`)."""
    keep = (rope.original_positions * turn / tau - rope.low_factor) / (
        rope.high_factor - rope.low_factor
    )
    keep = min(max(keep, 0.0), 1.0)
    return 1 / ((1 - keep) / rope.factor + keep)


def rules(config: Config) -> tuple[Rule, ...]:
    layer = "model.layers.{i}"
    return (
        Rule("model.embed_tokens.weight", "embedding.tokens.weight", also=("lm_head.weight",)),
        *norm_rules(f"{layer}.input_layernorm", "layers.{i}.attention_norm.input"),
        *linear_rules(f"{layer}.self_attn.q_proj", "layers.{i}.attention.query"),
        *linear_rules(f"{layer}.self_attn.k_proj", "layers.{i}.attention.key"),
        *linear_rules(f"{layer}.self_attn.v_proj", "layers.{i}.attention.value"),
        *linear_rules(f"{layer}.self_attn.o_proj", "layers.{i}.attention.output"),
        *norm_rules(f"{layer}.self_attn.q_norm", "layers.{i}.attention.query_norm"),
        *norm_rules(f"{layer}.self_attn.k_norm", "layers.{i}.attention.key_norm"),
        *norm_rules(f"{layer}.post_attention_layernorm", "layers.{i}.feedforward_norm.input"),
        *linear_rules(f"{layer}.mlp.gate_proj", "layers.{i}.feedforward.gate"),
        *linear_rules(f"{layer}.mlp.up_proj", "layers.{i}.feedforward.up"),
        *linear_rules(f"{layer}.mlp.down_proj", "layers.{i}.feedforward.down"),
        *norm_rules("model.norm", "final_norm"),
        Rule("lm_head.weight", "head.weight"),
    )


def gguf_rules(architecture: str) -> tuple[Rule, ...]:
    """llama.cpp's converter interleaves the rotary rows of query and key for architecture `llama`,
    and for it alone.
    """
    turn = architecture == "llama"
    query = Rule(
        "blk.{i}.attn_q.weight",
        "layers.{i}.attention.query.weight",
        interleaved="heads" if turn else "",
    )
    key = Rule(
        "blk.{i}.attn_k.weight",
        "layers.{i}.attention.key.weight",
        interleaved="kv_heads" if turn else "",
    )
    return (
        Rule("token_embd.weight", "embedding.tokens.weight"),
        *norm_rules("blk.{i}.attn_norm", "layers.{i}.attention_norm.input"),
        query,
        Rule(
            "blk.{i}.attn_q.bias", "layers.{i}.attention.query.bias", interleaved=query.interleaved
        ),
        key,
        Rule("blk.{i}.attn_k.bias", "layers.{i}.attention.key.bias", interleaved=key.interleaved),
        *linear_rules("blk.{i}.attn_v", "layers.{i}.attention.value"),
        *linear_rules("blk.{i}.attn_output", "layers.{i}.attention.output"),
        *norm_rules("blk.{i}.attn_q_norm", "layers.{i}.attention.query_norm"),
        *norm_rules("blk.{i}.attn_k_norm", "layers.{i}.attention.key_norm"),
        *norm_rules("blk.{i}.ffn_norm", "layers.{i}.feedforward_norm.input"),
        *linear_rules("blk.{i}.ffn_gate", "layers.{i}.feedforward.gate"),
        *linear_rules("blk.{i}.ffn_up", "layers.{i}.feedforward.up"),
        *linear_rules("blk.{i}.ffn_down", "layers.{i}.feedforward.down"),
        *norm_rules("output_norm", "final_norm"),
        Rule("output.weight", "head.weight"),
    )


def _preset(
    kind: str, layers: int, dim: int, heads: int, kv: int, hidden: int, vocab: int, **more: object
) -> HF:
    return {
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": dim,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": hidden,
        "vocab_size": vocab,
        **more,
    }


_LLAMA3 = {"max_position_embeddings": 8192, "rope_theta": 500000.0}


def _llama31(factor: float) -> HF:
    scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    scaling["original_max_position_embeddings"] = 8192
    return {"max_position_embeddings": 131072, "rope_theta": 500000.0, "rope_scaling": scaling}


_QWEN = {"max_position_embeddings": 32768, "rope_theta": 1000000.0}
_SMOL2 = {
    "max_position_embeddings": 8192,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
}
_TINY = _preset(
    "llama", 2, 32, 4, 4, 48, 61, max_position_embeddings=64, bos_token_id=0, eos_token_id=1
)
_TINY_SCALING = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

FAMILY = Family(
    name="llama",
    model_types=("llama", "mistral", "qwen2", "qwen3"),
    read=read,
    write=write,
    rules=rules,
    prefix="model.",
    ignored=(r".*\.rotary_emb\.inv_freq",),
    gguf=GGUF(
        architectures=("llama", "qwen2", "qwen3"),
        read=read_gguf,
        rules=gguf_rules,
        ignored=(r"rope_freqs\.weight",),
    ),
    presets={
        "llama-2-7b": _preset(
            "llama", 32, 4096, 32, 32, 11008, 32000, max_position_embeddings=4096
        ),
        "llama-2-13b": _preset(
            "llama", 40, 5120, 40, 40, 13824, 32000, max_position_embeddings=4096
        ),
        "llama-2-70b": _preset(
            "llama", 80, 8192, 64, 8, 28672, 32000, max_position_embeddings=4096
        ),
        "llama-3-8b": _preset("llama", 32, 4096, 32, 8, 14336, 128256, **_LLAMA3),
        "llama-3-70b": _preset("llama", 80, 8192, 64, 8, 28672, 128256, **_LLAMA3),
        "llama-3.1-8b": _preset("llama", 32, 4096, 32, 8, 14336, 128256, **_llama31(8.0)),
        "llama-3.1-405b": _preset("llama", 126, 16384, 128, 8, 53248, 128256, **_llama31(8.0)),
        "llama-3.2-1b": _preset(
            "llama", 16, 2048, 32, 8, 8192, 128256, tie_word_embeddings=True, **_llama31(32.0)
        ),
        "llama-3.2-3b": _preset(
            "llama", 28, 3072, 24, 8, 8192, 128256, tie_word_embeddings=True, **_llama31(32.0)
        ),
        "mistral-7b": _preset(
            "mistral",
            32,
            4096,
            32,
            8,
            14336,
            32000,
            sliding_window=4096,
            max_position_embeddings=32768,
        ),
        "qwen2.5-0.5b": _preset(
            "qwen2", 24, 896, 14, 2, 4864, 151936, tie_word_embeddings=True, **_QWEN
        ),
        "qwen2.5-7b": _preset("qwen2", 28, 3584, 28, 4, 18944, 152064, **_QWEN),
        "qwen3-0.6b": _preset(
            "qwen3", 28, 1024, 16, 8, 3072, 151936, tie_word_embeddings=True, **_QWEN
        ),
        "qwen3-8b": _preset("qwen3", 36, 4096, 32, 8, 12288, 151936, **_QWEN),
        "smollm2-135m": _preset("llama", 30, 576, 9, 3, 1536, 49152, **_SMOL2),
        "smollm2-360m": _preset("llama", 32, 960, 15, 5, 2560, 49152, **_SMOL2),
        "smollm2-1.7b": _preset(
            "llama", 24, 2048, 32, 32, 8192, 49152, **(_SMOL2 | {"rope_theta": 130000.0})
        ),
    },
    tiny={
        "llama 2": _TINY,
        "llama 3": {
            **_TINY,
            "num_key_value_heads": 2,
            "rope_scaling": _TINY_SCALING,
            "rope_theta": 500.0,
        },
        "linear scaling": {**_TINY, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        "smollm": {
            **_TINY,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "hidden_size": 36,
            "tie_word_embeddings": True,
        },
        "biases": {**_TINY, "attention_bias": True, "mlp_bias": True},
        "wide heads": {**_TINY, "head_dim": 16, "num_key_value_heads": 2},
        "mistral": {
            **_TINY,
            "model_type": "mistral",
            "num_key_value_heads": 2,
            "sliding_window": 5,
        },
        "qwen2": {
            **_TINY,
            "model_type": "qwen2",
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
        },
        "qwen2 sliding": {
            **_TINY,
            "model_type": "qwen2",
            "use_sliding_window": True,
            "sliding_window": 4,
            "max_window_layers": 1,
        },
        "qwen3": {**_TINY, "model_type": "qwen3", "head_dim": 12, "num_key_value_heads": 2},
    },
)
