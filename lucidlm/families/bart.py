"""BART, Marian, and the 2017 Transformer: encoder and decoder, post-norm, biases everywhere.

BART has learned positions (two unused rows first) and a norm on its embeddings (Lewis et al. 2020);
Marian has sinusoids, scaled embeddings and SiLU (Junczys-Dowmunt et al. 2018); the original has
sinusoids, scaled embeddings and ReLU, and is kept in Marian's format (Vaswani et al. 2017).
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

from lucidlm.config import Config, Embedding, FeedForward, Head, Norm, Stack
from lucidlm.families.family import HF, Family, Keys, Rule, linear_rules, multi_head, norm_rules


def read(hf: HF) -> Config:
    kind = hf["model_type"]
    keys = Keys(hf, kind)
    dim, learned = keys.number("d_model"), kind == "bart"
    norm = Norm(
        kind="layer", eps=1e-5
    )  # the format has no key for it: every implementation uses this
    activation = keys.activation("activation_function", "gelu")
    for key in (
        "share_encoder_decoder_embeddings",
        "static_position_embeddings",
        "add_final_layer_norm",
        "normalize_before",
    ):
        keys.only(
            key, key.startswith(("share", "static")) and not (learned and key.startswith("static"))
        )
    keys.only("normalize_embedding", learned)
    keys.only("extra_pos_embeddings", 2 if learned else keys.take("extra_pos_embeddings", 0))
    vocab = keys.number("vocab_size")
    keys.only("decoder_vocab_size", vocab)
    dropouts = (
        "dropout",
        "activation_dropout",
        "classifier_dropout",
        "classif_dropout",
        "encoder_layerdrop",
    )
    keys.ignore(
        *dropouts,
        "decoder_layerdrop",
        "init_std",
        "num_hidden_layers",
        "add_bias_logits",
        "save_step",
    )

    def stack(side: str) -> Stack:
        heads = keys.number(f"{side}_attention_heads")
        return Stack(
            layers=keys.number(f"{side}_layers"),
            attention=multi_head(dim, heads),
            feedforward=FeedForward(
                hidden=keys.number(f"{side}_ffn_dim"), activation=activation, bias=True
            ),
            norm=norm,
            norm_places=("residual",),
            mask="full",
        )

    decoder = stack("decoder")
    config = Config(
        dim=dim,
        vocab_size=vocab,
        max_positions=keys.number("max_position_embeddings", 1024),
        embedding=Embedding(
            positions="learned" if learned else "sinusoidal",
            position_offset=2 if learned else 0,
            scale=sqrt(dim) if keys.flag("scale_embedding", False) else 1.0,
            norm=norm if learned else None,
        ),
        encoder=stack("encoder"),
        decoder=replace(decoder, mask="causal", cross=decoder.attention),
        head=Head(tied=keys.flag("tie_word_embeddings", True), bias=True),
    )
    keys.finish()
    return config


def write(config: Config) -> HF:
    encoder, decoder, head = config.encoder, config.decoder, config.head
    assert encoder is not None and decoder is not None and head is not None
    kind = "bart" if config.embedding.positions == "learned" else "marian"
    names = {"gelu_tanh": "gelu_new", "silu": "swish" if kind == "marian" else "silu"}
    hf: HF = {
        "model_type": kind,
        "architectures": ["BartForConditionalGeneration" if kind == "bart" else "MarianMTModel"],
        "is_encoder_decoder": True,
        "d_model": config.dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "activation_function": names.get(
            encoder.feedforward.activation, encoder.feedforward.activation
        ),
        "scale_embedding": config.embedding.scale != 1.0,
        "tie_word_embeddings": head.tied,
        "pad_token_id": 0,  # theirs by default lies outside a small vocabulary
    }
    for side, stack in (("encoder", encoder), ("decoder", decoder)):
        hf[f"{side}_layers"] = stack.layers
        hf[f"{side}_attention_heads"] = stack.attention.heads
        hf[f"{side}_ffn_dim"] = stack.feedforward.hidden
    if kind == "marian":
        hf |= {"decoder_vocab_size": config.vocab_size, "share_encoder_decoder_embeddings": True}
    return hf


def _attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
    return tuple(
        rule for a, b in names.items() for rule in linear_rules(f"{theirs}.{a}", f"{ours}.{b}")
    )


def _side(side: str) -> tuple[Rule, ...]:
    theirs, ours = f"model.{side}.layers.{{i}}", f"{side}.layers.{{i}}"
    return (
        Rule(f"model.{side}.embed_positions.weight", f"{side}.embedding.positions.weight"),
        *norm_rules(f"model.{side}.layernorm_embedding", f"{side}.embedding.norm"),
        *_attention(f"{theirs}.self_attn", f"{ours}.attention"),
        *norm_rules(f"{theirs}.self_attn_layer_norm", f"{ours}.attention_norm.residual"),
        *_attention(f"{theirs}.encoder_attn", f"{ours}.cross_attention"),
        *norm_rules(f"{theirs}.encoder_attn_layer_norm", f"{ours}.cross_attention_norm.residual"),
        *linear_rules(f"{theirs}.fc1", f"{ours}.feedforward.up"),
        *linear_rules(f"{theirs}.fc2", f"{ours}.feedforward.down"),
        *norm_rules(f"{theirs}.final_layer_norm", f"{ours}.feedforward_norm.residual"),
    )


def rules(config: Config) -> tuple[Rule, ...]:
    tied = (
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
        "lm_head.weight",
    )
    return (
        Rule("model.shared.weight", "encoder.embedding.tokens.weight", also=tied),
        *_side("encoder"),
        *_side("decoder"),
        Rule("final_logits_bias", "head.bias", leading_axis=True),
        Rule("lm_head.weight", "head.weight"),
    )


def _size(
    kind: str, layers: int, dim: int, heads: int, hidden: int, vocab: int, **more: object
) -> HF:
    sides = {
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in (("layers", layers), ("attention_heads", heads), ("ffn_dim", hidden))
    }
    return {"model_type": kind, "d_model": dim, "vocab_size": vocab, **sides, **more}


_2017 = {"activation_function": "relu", "scale_embedding": True, "max_position_embeddings": 512}
_MARIAN = {"activation_function": "swish", "scale_embedding": True, "max_position_embeddings": 512}
_IDS = {
    "pad_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}
_SHORT = {"max_position_embeddings": 64, **_IDS}

FAMILY = Family(
    name="bart",
    model_types=("bart", "marian"),
    read=read,
    write=write,
    rules=rules,
    prefix="model.",
    ignored=(
        r"(model\.)?(encoder|decoder)\.embed_positions\.weight",
    ),  # Marian's sinusoids, where they are written out
    presets={
        "bart-base": _size("bart", 6, 768, 12, 3072, 50265),
        "bart-large": _size("bart", 12, 1024, 16, 4096, 50265),
        "opus-mt-zh-en": _size("marian", 6, 512, 8, 2048, 65001, **_MARIAN),
        "transformer-base": _size("marian", 6, 512, 8, 2048, 37000, **_2017),
        "transformer-big": _size("marian", 6, 1024, 16, 4096, 37000, **_2017),
    },
    tiny={
        "bart": _size("bart", 2, 32, 4, 48, 61, **_SHORT),
        "bart scaled": _size(
            "bart", 1, 30, 3, 50, 61, **_SHORT, scale_embedding=True, activation_function="relu"
        ),
        "marian": _size("marian", 2, 32, 4, 48, 61, **{**_MARIAN, **_SHORT}),
        "transformer 2017": _size("marian", 2, 36, 3, 48, 61, **{**_2017, **_SHORT}),
        "uneven": {
            **_size("marian", 3, 32, 4, 48, 61, **{**_MARIAN, **_SHORT}),
            "decoder_layers": 1,
        },
    },
)
