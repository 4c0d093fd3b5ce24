"""BERT: an encoder that sees both ways, post-norm, learned positions and segments, a head for
masked words, and a pooler (Devlin et al. 2019). Sentence encoders such as MiniLM are the same
without the head.
"""

from __future__ import annotations

from lucidlm.config import Config, Embedding, FeedForward, Head, Norm, Stack
from lucidlm.families.family import HF, Family, Keys, Rule, linear_rules, multi_head, norm_rules

# What stands on the encoder, by published architecture: (masked-word head, pooler)
TOPS = {
    "BertModel": (False, True),
    "BertForMaskedLM": (True, False),
    "BertForPreTraining": (True, True),
}


def read(hf: HF) -> Config:
    keys = Keys(hf, "bert")
    named = hf.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else "BertForMaskedLM"
    if not isinstance(architecture, str) or architecture not in TOPS:
        raise keys.unknown("architectures", architecture, ", ".join(TOPS))
    masked_words, pooler = TOPS[architecture]
    keys.only("position_embedding_type", "absolute")
    keys.only("is_decoder", False)
    keys.only("add_cross_attention", False)
    keys.ignore(
        "attention_probs_dropout_prob",
        "hidden_dropout_prob",
        "classifier_dropout",
        "directionality",
    )
    keys.ignore(
        *(
            f"pooler_{x}"
            for x in ("fc_size", "num_attention_heads", "num_fc_layers", "size_per_head", "type")
        )
    )
    dim, heads = keys.number("hidden_size"), keys.number("num_attention_heads")
    activation = keys.activation("hidden_act", "gelu")
    norm = Norm(kind="layer", eps=keys.real("layer_norm_eps", 1e-12))
    tied = keys.flag("tie_word_embeddings", True)
    config = Config(
        dim=dim,
        vocab_size=keys.number("vocab_size"),
        max_positions=keys.number("max_position_embeddings", 512),
        embedding=Embedding(
            positions="learned", segments=keys.number("type_vocab_size", 2), norm=norm
        ),
        encoder=Stack(
            layers=keys.number("num_hidden_layers"),
            attention=multi_head(dim, heads),
            feedforward=FeedForward(
                hidden=keys.number("intermediate_size"), activation=activation, bias=True
            ),
            norm=norm,
            norm_places=("residual",),
            mask="full",
        ),
        head=Head(tied=tied, bias=True, transform=activation, norm=norm) if masked_words else None,
        pooler=pooler,
    )
    keys.finish()
    return config


def write(config: Config) -> HF:
    stack = config.encoder
    assert stack is not None
    tops = {top: name for name, top in TOPS.items()}
    return {
        "model_type": "bert",
        "architectures": [tops[config.head is not None, config.pooler]],
        "hidden_size": config.dim,
        "num_hidden_layers": stack.layers,
        "num_attention_heads": stack.attention.heads,
        "intermediate_size": stack.feedforward.hidden,
        "hidden_act": "gelu_new"
        if stack.feedforward.activation == "gelu_tanh"
        else stack.feedforward.activation,
        "layer_norm_eps": stack.norm.eps,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.embedding.segments,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.head is None or config.head.tied,
    }


def rules(config: Config) -> tuple[Rule, ...]:
    layer = "bert.encoder.layer.{i}"
    return (
        Rule(
            "bert.embeddings.word_embeddings.weight",
            "embedding.tokens.weight",
            also=("cls.predictions.decoder.weight",),
        ),
        Rule("bert.embeddings.position_embeddings.weight", "embedding.positions.weight"),
        Rule("bert.embeddings.token_type_embeddings.weight", "embedding.segments.weight"),
        *norm_rules("bert.embeddings.LayerNorm", "embedding.norm"),
        *linear_rules(f"{layer}.attention.self.query", "layers.{i}.attention.query"),
        *linear_rules(f"{layer}.attention.self.key", "layers.{i}.attention.key"),
        *linear_rules(f"{layer}.attention.self.value", "layers.{i}.attention.value"),
        *linear_rules(f"{layer}.attention.output.dense", "layers.{i}.attention.output"),
        *norm_rules(f"{layer}.attention.output.LayerNorm", "layers.{i}.attention_norm.residual"),
        *linear_rules(f"{layer}.intermediate.dense", "layers.{i}.feedforward.up"),
        *linear_rules(f"{layer}.output.dense", "layers.{i}.feedforward.down"),
        *norm_rules(f"{layer}.output.LayerNorm", "layers.{i}.feedforward_norm.residual"),
        *linear_rules("bert.pooler.dense", "pooler.dense"),
        *linear_rules("cls.predictions.transform.dense", "head.transform"),
        *norm_rules("cls.predictions.transform.LayerNorm", "head.norm"),
        Rule("cls.predictions.decoder.weight", "head.weight"),
        Rule("cls.predictions.bias", "head.bias", also=("cls.predictions.decoder.bias",)),
    )


def _size(layers: int, dim: int, heads: int) -> HF:
    return {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "num_hidden_layers": layers,
        "hidden_size": dim,
        "num_attention_heads": heads,
        "intermediate_size": 4 * dim,
        "vocab_size": 30522,
    }


_TINY: HF = {**_size(2, 32, 4), "vocab_size": 61, "max_position_embeddings": 64}

FAMILY = Family(
    name="bert",
    model_types=("bert",),
    read=read,
    write=write,
    rules=rules,
    prefix="bert.",
    # next-sentence prediction is a task of its pre-training, not a part of the model we run
    ignored=(r"(bert\.)?embeddings\.position_ids", r"cls\.seq_relationship\..*"),
    presets={
        "bert-base": _size(12, 768, 12),
        "bert-large": _size(24, 1024, 16),
        "minilm-l6": {**_size(6, 384, 12), "architectures": ["BertModel"]},
    },
    tiny={
        "masked words": _TINY,
        "sentence encoder": {
            **_TINY,
            "architectures": ["BertModel"],
            "num_attention_heads": 3,
            "hidden_size": 30,
        },
        "both": {
            **_TINY,
            "architectures": ["BertForPreTraining"],
            "hidden_act": "gelu_new",
            "type_vocab_size": 3,
        },
    },
)
