"""T5: encoder and decoder, RMSNorm before, no biases, position as a learned bias by distance
(Raffel et al. 2020).

Version 1.0 has ReLU and a tied head that scales by 1/sqrt(dim); 1.1 has a gated GELU and a head of
its own.
"""

from __future__ import annotations

from dataclasses import replace

from lucidlm.config import (
    Attention,
    Config,
    Embedding,
    FeedForward,
    Head,
    Norm,
    RelativeBias,
    Stack,
)
from lucidlm.families.family import ACTIVATIONS, HF, Family, Keys, Rule

UNBOUNDED = 1 << 20  # a bias by distance sets no limit


def read(hf: HF) -> Config:
    keys = Keys(hf, "t5")
    dim, heads = keys.number("d_model"), keys.number("num_heads")
    layers = keys.number("num_layers")
    norm = Norm(kind="rms", eps=keys.real("layer_norm_epsilon", 1e-6))
    projection = str(keys.take("feed_forward_proj", "relu"))
    gated, name = projection.startswith("gated-"), projection.removeprefix("gated-")
    if name not in ACTIVATIONS:
        raise keys.unknown("feed_forward_proj", projection, "relu, gated-gelu")
    # the published 1.1 files say "gated-gelu" and were trained with the tanh form
    activation = "gelu_tanh" if projection == "gated-gelu" else ACTIVATIONS[name]
    tied = keys.flag("scale_decoder_outputs", keys.flag("tie_word_embeddings", True))
    keys.ignore(
        "tie_word_embeddings", "dense_act_fn", "is_gated_act", "n_positions", "dropout_rate"
    )
    keys.ignore("initializer_factor", "classifier_dropout", "relative_attention_max_distance")
    attention = Attention(
        heads=heads,
        kv_heads=heads,
        head_dim=keys.number("d_kv", 64),
        scale=1.0,
        relative=RelativeBias(
            buckets=keys.number("relative_attention_num_buckets", 32),
            max_distance=keys.number("relative_attention_max_distance", 128),
        ),
    )
    encoder = Stack(
        layers=layers,
        attention=attention,
        feedforward=FeedForward(hidden=keys.number("d_ff"), activation=activation, gated=gated),
        norm=norm,
        norm_places=("input",),
        mask="full",
        final_norm=True,
    )
    config = Config(
        dim=dim,
        vocab_size=keys.number("vocab_size"),
        max_positions=UNBOUNDED,
        embedding=Embedding(),
        encoder=encoder,
        decoder=replace(
            encoder,
            layers=keys.number("num_decoder_layers", layers),
            mask="causal",
            cross=replace(attention, relative=None),
        ),
        head=Head(tied=tied, scale=max(dim, 1) ** -0.5 if tied else 1.0),
    )
    keys.finish()
    return config


def write(config: Config) -> HF:
    encoder, decoder, head = config.encoder, config.decoder, config.head
    assert encoder is not None and decoder is not None and head is not None
    relative, feedforward = encoder.attention.relative, encoder.feedforward
    assert relative is not None
    # "gated-gelu" is read as the tanh form by everybody; elsewhere the two forms of GELU have names
    # of their own
    gelus = {"gelu_tanh": "gelu" if feedforward.gated else "gelu_new"}
    name = gelus.get(feedforward.activation, feedforward.activation)
    return {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "d_model": config.dim,
        "d_kv": encoder.attention.head_dim,
        "d_ff": feedforward.hidden,
        "num_layers": encoder.layers,
        "num_decoder_layers": decoder.layers,
        "num_heads": encoder.attention.heads,
        "relative_attention_num_buckets": relative.buckets,
        "relative_attention_max_distance": relative.max_distance,
        "layer_norm_epsilon": encoder.norm.eps,
        "feed_forward_proj": f"gated-{name}" if feedforward.gated else name,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": head.tied,
    }


def _attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    names = {"q": "query", "k": "key", "v": "value", "o": "output"}
    return tuple(Rule(f"{theirs}.{a}.weight", f"{ours}.{b}.weight") for a, b in names.items())


def _feedforward(theirs: str, ours: str, gated: bool) -> tuple[Rule, ...]:
    """`wi` where there is no gate; else `wi_0` is the gate and `wi_1` what it gates."""
    return (
        Rule(f"{theirs}.wi_0.weight", f"{ours}.gate.weight"),
        Rule(f"{theirs}.{'wi_1' if gated else 'wi'}.weight", f"{ours}.up.weight"),
        Rule(f"{theirs}.wo.weight", f"{ours}.down.weight"),
    )


def rules(config: Config) -> tuple[Rule, ...]:
    gated = config.encoder is not None and config.encoder.feedforward.gated
    encoder, decoder, bias = (
        "encoder.block.{i}.layer",
        "decoder.block.{i}.layer",
        "relative_attention_bias.weight",
    )
    here, there = "encoder.layers.{i}", "decoder.layers.{i}"
    tied = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    return (
        Rule("shared.weight", "encoder.embedding.tokens.weight", also=tied),
        Rule(f"encoder.block.0.layer.0.SelfAttention.{bias}", "encoder.position_bias.weight"),
        *_attention(f"{encoder}.0.SelfAttention", f"{here}.attention"),
        Rule(f"{encoder}.0.layer_norm.weight", f"{here}.attention_norm.input.weight"),
        *_feedforward(f"{encoder}.1.DenseReluDense", f"{here}.feedforward", gated),
        Rule(f"{encoder}.1.layer_norm.weight", f"{here}.feedforward_norm.input.weight"),
        Rule("encoder.final_layer_norm.weight", "encoder.final_norm.weight"),
        Rule(f"decoder.block.0.layer.0.SelfAttention.{bias}", "decoder.position_bias.weight"),
        *_attention(f"{decoder}.0.SelfAttention", f"{there}.attention"),
        Rule(f"{decoder}.0.layer_norm.weight", f"{there}.attention_norm.input.weight"),
        *_attention(f"{decoder}.1.EncDecAttention", f"{there}.cross_attention"),
        Rule(f"{decoder}.1.layer_norm.weight", f"{there}.cross_attention_norm.input.weight"),
        *_feedforward(f"{decoder}.2.DenseReluDense", f"{there}.feedforward", gated),
        Rule(f"{decoder}.2.layer_norm.weight", f"{there}.feedforward_norm.input.weight"),
        Rule("decoder.final_layer_norm.weight", "decoder.final_norm.weight"),
        Rule("lm_head.weight", "head.weight", also=("shared.weight",)),
    )


def _size(layers: int, dim: int, heads: int, hidden: int, kv: int = 64) -> HF:
    return {
        "model_type": "t5",
        "num_layers": layers,
        "d_model": dim,
        "num_heads": heads,
        "d_ff": hidden,
        "d_kv": kv,
        "vocab_size": 32128,
    }


_V11: HF = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
_TINY: HF = {
    **_size(2, 32, 4, 48, 8),
    "vocab_size": 61,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}

FAMILY = Family(
    name="t5",
    model_types=("t5",),
    read=read,
    write=write,
    rules=rules,
    # early files carry a bias table that no attention to the encoder ever used
    ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    presets={
        "t5-small": _size(6, 512, 8, 2048),
        "t5-base": _size(12, 768, 12, 3072),
        "t5-large": _size(24, 1024, 16, 4096),
        "t5-v1.1-small": {**_size(8, 512, 6, 1024), **_V11},
        "t5-v1.1-base": {**_size(12, 768, 12, 2048), **_V11},
    },
    tiny={
        "v1.0": _TINY,
        "v1.1": {**_TINY, **_V11},
        "uneven": {**_TINY, "num_decoder_layers": 3, "num_heads": 3, "d_kv": 10},
    },
)
