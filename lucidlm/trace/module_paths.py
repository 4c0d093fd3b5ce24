"""Hugging Face's module paths and parameter names, by what kind of model it is.

A path stands for what the module puts out, with `.weight` or `.bias` for the parameter. Left out is
what has no single counterpart here (GPT-2's fused c_attn), or another one than it seems to have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lucidlm.config import Config, Stack

Pairs = Iterator[tuple[str, str]]
Names = Mapping[str, str]

# Each: their module to ours. `""` is the layer itself.
LLAMA: Names = {
    "input_layernorm": "attention_norm.input",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "self_attn.q_norm": "attention.query_norm",
    "self_attn.k_norm": "attention.key_norm",
    "mlp.gate_proj": "feedforward.gate",
    "mlp.up_proj": "feedforward.up",
    "mlp.down_proj": "feedforward.down",
}
TWO_NORMS: Names = {"post_attention_layernorm": "feedforward_norm.input"}
FOUR_NORMS: Names = {  # the same name as above, another norm
    "post_attention_layernorm": "attention_norm.output",
    "pre_feedforward_layernorm": "feedforward_norm.input",
    "post_feedforward_layernorm": "feedforward_norm.output",
}
LLAMA_SITES: Names = {
    "": "residual_out",
    "self_attn": "attention.output",
    "mlp": "feedforward.output",
    "mlp.act_fn": "feedforward.activated",
}
GPT2: Names = {"ln_1": "attention_norm.input", "ln_2": "feedforward_norm.input"}
GPT2_SITES: Names = {  # their weights lie the other way round
    "": "residual_out",
    "attn": "attention.output",
    "attn.c_proj": "attention.output",
    "attn.c_proj.bias": "attention.output.bias",
    "mlp": "feedforward.output",
    "mlp.c_fc": "feedforward.up",
    "mlp.c_fc.bias": "feedforward.up.bias",
    "mlp.act": "feedforward.activated",
    "mlp.c_proj": "feedforward.output",
    "mlp.c_proj.bias": "feedforward.down.bias",
}
BERT: Names = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm.residual",
    "intermediate.dense": "feedforward.up",
    "output.dense": "feedforward.down",
    "output.LayerNorm": "feedforward_norm.residual",
}
BERT_SITES: Names = {
    "": "residual_out",
    "attention": "residual_mid",
    "attention.self": "attention.mixed",
    "attention.output": "residual_mid",
    "intermediate": "feedforward.activated",
    "intermediate.intermediate_act_fn": "feedforward.activated",
    "output": "residual_out",
}
BERT_EMBEDDINGS: Names = {
    "embeddings.word_embeddings": "embedding.tokens",
    "embeddings.position_embeddings": "embedding.positions",
    "embeddings.token_type_embeddings": "embedding.segments",
    "embeddings.LayerNorm": "embedding.norm",
    "pooler.dense": "pooler.dense",
}
BERT_HEAD: Names = {
    "cls.predictions.transform.dense": "head.transform",
    "cls.predictions.transform.LayerNorm": "head.norm",
}
BERT_HEAD_SITES: Names = {
    "cls": "head.logits",
    "cls.predictions": "head.logits",
    "cls.predictions.bias": "head.bias",
    "cls.predictions.decoder": "head.logits",
    "cls.predictions.decoder.bias": "head.bias",
    "cls.predictions.transform": "head.transformed",
    "cls.predictions.transform.transform_act_fn": "head.activated",
}
BART: Names = {
    **{
        f"{theirs}.{a}": f"{ours}.{b}"
        for theirs, ours in (("self_attn", "attention"), ("encoder_attn", "cross_attention"))
        for a, b in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"))
    },
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm.residual",
    "encoder_attn.out_proj": "cross_attention.output",
    "encoder_attn_layer_norm": "cross_attention_norm.residual",
    "fc1": "feedforward.up",
    "fc2": "feedforward.down",
    "final_layer_norm": "feedforward_norm.residual",
}
BART_SITES: Names = {
    "": "residual_out",
    "self_attn": "attention.output",
    "encoder_attn": "cross_attention.output",
    "activation_fn": "feedforward.activated",
}
T5_ATTENTION: Names = {"q": "query", "k": "key", "v": "value", "o": "output"}


def aliases(config: Config) -> Pairs:
    """Their name and our address, for each that this kind of model could have."""
    if config.encoder is None:
        yield from _decoder_only(config)
    elif config.decoder is None:
        yield from _encoder_only(config)
    else:
        for side, stack in config.stacks.items():
            yield from _bart(config, side, stack)
            yield from _t5(side, stack)
    if head_is_logits(config):
        yield "lm_head", "head.logits"
    first = "encoder." if len(config.stacks) > 1 else ""
    table = f"{first}embedding.tokens.weight"
    tied = config.head is not None and config.head.tied
    yield "lm_head.weight", table if tied else "head.weight"
    yield "cls.predictions.decoder.weight", table if tied else "head.weight"


def head_is_logits(config: Config) -> bool:
    """Whether what their last module puts out are the logits: with two stacks the bias comes
    after it.
    """
    return not (len(config.stacks) > 1 and config.head is not None and config.head.bias)


def table_is_scaled(config: Config) -> bool:
    """Whether their embedding module scales what it looks up; Marian does that behind it."""
    return config.embedding.scale == 1.0 or config.embedding.positions != "sinusoidal"


def _decoder_only(config: Config) -> Pairs:
    stack = config.decoder
    assert stack is not None
    four = "output" in stack.norm_places
    llama = {**LLAMA, **(FOUR_NORMS if four else TWO_NORMS)}
    # one format of Gemma's stores its norms' weights with 1 added, the other, theirs, without
    stored = not (four and stack.norm.offset == 0)
    for prefix in ("model.", ""):
        yield from _modules(f"{prefix}embed_tokens", "embedding.tokens")
        yield from _modules(f"{prefix}norm", "final_norm", stored)
        for i in range(stack.layers):
            at = f"{prefix}layers.{i}"
            for theirs, ours in llama.items():
                weighed = stored or "norm" not in theirs
                yield from _modules(f"{at}.{theirs}", f"layers.{i}.{ours}", weighed)
            yield from _sites(at, f"layers.{i}", LLAMA_SITES)
    for prefix in ("transformer.", ""):
        yield from _modules(f"{prefix}wte", "embedding.tokens")
        yield from _modules(f"{prefix}wpe", "embedding.positions")
        yield from _modules(f"{prefix}ln_f", "final_norm")
        yield f"{prefix}drop", "embedding.sum"
        yield from _layers(f"{prefix}h", "layers", stack.layers, GPT2, GPT2_SITES)


def _encoder_only(config: Config) -> Pairs:
    stack = config.encoder
    assert stack is not None
    for prefix in ("bert.", ""):
        for theirs, ours in BERT_EMBEDDINGS.items():
            yield from _modules(f"{prefix}{theirs}", ours)
        yield f"{prefix}embeddings", "embedding.norm.output"
        yield f"{prefix}pooler", "pooler.pooled"
        yield f"{prefix}encoder", f"layers.{stack.layers - 1}.residual_out"
        layers = stack.layers
        yield from _layers(f"{prefix}encoder.layer", "layers", layers, BERT, BERT_SITES)
    for theirs, ours in BERT_HEAD.items():
        yield from _modules(theirs, ours)
    yield from BERT_HEAD_SITES.items()


def _bart(config: Config, side: str, stack: Stack) -> Pairs:
    for prefix in (f"model.{side}", side):
        if table_is_scaled(config):
            yield f"{prefix}.embed_tokens", f"{side}.embedding.tokens"
        yield f"{prefix}.embed_tokens.weight", "encoder.embedding.tokens.weight"
        yield from _modules(f"{prefix}.embed_positions", f"{side}.embedding.positions")
        yield from _modules(f"{prefix}.layernorm_embedding", f"{side}.embedding.norm")
        yield from _layers(f"{prefix}.layers", f"{side}.layers", stack.layers, BART, BART_SITES)
    yield "model.shared.weight", "encoder.embedding.tokens.weight"
    yield "final_logits_bias", "head.bias"


def _t5(side: str, stack: Stack) -> Pairs:
    yield "shared.weight", "encoder.embedding.tokens.weight"
    yield from _modules(f"{side}.final_layer_norm", f"{side}.final_norm")
    bias = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
    yield f"{bias}.weight", f"{side}.position_bias.weight"
    looks = [("SelfAttention", "attention", "residual_mid")]
    if stack.cross is not None:
        looks.append(("EncDecAttention", "cross_attention", "residual_cross"))
    for i in range(stack.layers):
        ours, block = f"{side}.layers.{i}", f"{side}.block.{i}"
        yield block, f"{ours}.residual_out"
        for n, (theirs, look, residual) in enumerate(looks):
            at = f"{block}.layer.{n}"
            yield from ((at, f"{ours}.{residual}"), (f"{at}.{theirs}", f"{ours}.{look}.output"))
            yield from _modules(f"{at}.layer_norm", f"{ours}.{look}_norm.input")
            for a, b in T5_ATTENTION.items():
                yield from _modules(f"{at}.{theirs}.{a}", f"{ours}.{look}.{b}")
        at, gated = f"{block}.layer.{len(looks)}", stack.feedforward.gated
        yield from _modules(f"{at}.layer_norm", f"{ours}.feedforward_norm.input")
        yield from _modules(f"{at}.DenseReluDense.wi_0", f"{ours}.feedforward.gate")
        up = "wi_1" if gated else "wi"
        yield from _modules(f"{at}.DenseReluDense.{up}", f"{ours}.feedforward.up")
        yield from _modules(f"{at}.DenseReluDense.wo", f"{ours}.feedforward.down")
        yield f"{at}.DenseReluDense.act", f"{ours}.feedforward.activated"
        yield f"{at}.DenseReluDense", f"{ours}.feedforward.output"
        yield at, f"{ours}.residual_out"


def _layers(theirs: str, ours: str, count: int, modules: Names, sites: Names) -> Pairs:
    for i in range(count):
        for a, b in modules.items():
            yield from _modules(f"{theirs}.{i}.{a}", f"{ours}.{i}.{b}")
        yield from _sites(f"{theirs}.{i}", f"{ours}.{i}", sites)


def _sites(theirs: str, ours: str, names: Names) -> Pairs:
    for a, b in names.items():
        yield f"{theirs}.{a}" if a else theirs, f"{ours}.{b}"


def _modules(theirs: str, ours: str, weighed: bool = True) -> Pairs:
    """What a module puts out, and its parameters where `weighed`."""
    yield theirs, _put_out(ours)
    if weighed:
        yield f"{theirs}.weight", f"{ours}.weight"
        yield f"{theirs}.bias", f"{ours}.bias"


def _put_out(module: str) -> str:
    """The site that a module of ours makes."""
    parent, _, name = module.rpartition(".")
    if name.endswith("norm") or parent.endswith("_norm"):
        return f"{module}.output"
    if name == "down":
        return f"{parent}.output"
    return f"{parent}.projected" if name in ("transform", "dense") else module
