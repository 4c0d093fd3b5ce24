"""What a model costs, by formula from its `Config`: parameters, FLOPs, cache, training memory.

Nothing is allocated and no array library is imported, so GPT-3's 175 billion take microseconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lucidlm.config import Attention, Config, FeedForward, Norm, Stack
from lucidlm.locale import text

CACHE_BYTES = 2  # a value of the cache, in bf16 or fp16
# fp32 weight 4, Adam's two moments 4 + 4, bf16 weight 2, bf16 gradient 2 (Rajbhandari et al. 2020)
STATE_BYTES = 16
ACTIVATION_BYTES = 2  # a value kept for the backward pass, in bf16 or fp16
MASK_BYTES = 1  # one element of a dropout mask
LOGIT_BYTES = 4  # the loss is computed in fp32
DEFAULT_LENGTH = 2048  # of the training example, unless the model has fewer positions


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Parameters by what they do; the fields sum to the whole. A tied head has no matrix."""

    token_embedding: int
    position_embedding: int
    segment_embedding: int
    attention_projections: int  # query, key, value and output matrices, cross-attention's included
    attention_biases: int
    relative_bias: int
    feedforward: int
    norms: int
    head: int
    pooler: int

    @property
    def total(self) -> int:
        return sum(vars(self).values())

    @property
    def embedding(self) -> int:
        """The tables that are looked up: tokens, positions, segments."""
        return self.token_embedding + self.position_embedding + self.segment_embedding

    def named(self, lang: str = "en") -> dict[str, int]:
        """The parts that are there, by their names in `lang`."""
        return {text(f"count.part_{part}", lang): n for part, n in vars(self).items() if n}


@dataclass(frozen=True)
class Count:
    """The costs of one model; "token" is the decoder's where there is one, else the encoder's."""

    config: Config
    parts: Parts

    @property
    def parameters(self) -> int:
        """Elements of all parameters, each shared one once."""
        return self.parts.total

    @property
    def flops_per_token(self) -> int:
        """2 x the weights of every matrix a token passes: head in, look-ups and q.k products out.

        In an encoder-decoder the encoder, and the keys and values of cross-attention, are paid per
        source token instead (`flops_per_source_token`). The pooler, once per text, is left out.
        """
        config, own = self.config, self.config.decoder or self.config.encoder
        assert own is not None, "a Config has a stack"
        weights = own.layers * _layer_weights(own, config.dim)
        if own.cross is not None:
            weights -= own.layers * _key_value_weights(own.cross, config.dim)
        return 2 * (weights + _head_weights(config))

    @property
    def flops_per_source_token(self) -> int:
        """The same for a token that an encoder reads for a decoder; 0 where there are not both."""
        config = self.config
        if config.encoder is None or config.decoder is None:
            return 0
        weights = config.encoder.layers * _layer_weights(config.encoder, config.dim)
        if config.decoder.cross is not None:
            weights += config.decoder.layers * _key_value_weights(config.decoder.cross, config.dim)
        return 2 * weights

    def attention_flops_per_token(self, context: int, source: int = 0) -> int:
        """q.k and the mixing of values by one token that sees `context` positions, itself included.

        4 * heads * head_dim per position and layer, local layers up to their window, and as much
        per `source` token for cross-attention.
        """
        stack = self.config.decoder or self.config.encoder
        assert stack is not None, "a Config has a stack"
        seen = sum(min(context, window or context) * layers for layers, window in _reach(stack))
        flops = 4 * stack.attention.heads * stack.attention.head_dim * seen
        if stack.cross is not None:
            flops += 4 * stack.cross.heads * stack.cross.head_dim * stack.layers * source
        return flops

    @property
    def kv_cache_bytes_per_token(self) -> int:
        """Keys and values of every decoder layer, 2 bytes a value; an encoder keeps none."""
        stack = self.config.decoder
        return 0 if stack is None else stack.layers * _cached_bytes(stack.attention)

    @property
    def cross_cache_bytes_per_source_token(self) -> int:
        """Keys and values of cross-attention, written once per source token."""
        stack = self.config.decoder
        return (
            0 if stack is None or stack.cross is None else stack.layers * _cached_bytes(stack.cross)
        )

    def kv_cache_bytes(self, context: int, source: int = 0) -> int:
        """The cache at `context` positions, when local layers keep no more than their window."""
        stack = self.config.decoder
        if stack is None:
            return 0
        kept = sum(min(context, window or context) * layers for layers, window in _reach(stack))
        return (
            _cached_bytes(stack.attention) * kept + self.cross_cache_bytes_per_source_token * source
        )

    @property
    def training_state_bytes(self) -> int:
        """16 bytes a parameter: mixed precision with Adam, as `STATE_BYTES` lists them."""
        return STATE_BYTES * self.parameters

    def activation_bytes(self, batch: int = 1, length: int | None = None) -> int:
        """What the backward pass needs of `batch` examples of `length` tokens (default: to 2048).

        Korthikanti et al. 2022, section 4, without recomputation and with dropout, each term
        written for any head and hidden size: on GPT's shape these are their
        s*b*h*L*(34 + 5*a*s/h) + s*b*h + 4*s*b*h*(1 + v/h) bytes for L layers, the embedding's
        dropout, and the final norm with the head. A source is as long as its target.
        """
        length = min(self.config.max_positions, DEFAULT_LENGTH) if length is None else length
        config, tokens = self.config, batch * length
        each = sum(
            s.layers * _layer_activations(s, config.dim, length) for s in config.stacks.values()
        )
        each += len(config.stacks) * MASK_BYTES * config.dim  # dropout of the embeddings
        each += sum(ACTIVATION_BYTES * config.dim for s in config.stacks.values() if s.final_norm)
        if config.head is not None:
            each += ACTIVATION_BYTES * config.dim + LOGIT_BYTES * config.vocab_size
        return tokens * each

    @property
    def training_memory_bytes(self) -> int:
        """States and the activations of one example of the default length."""
        return self.training_state_bytes + self.activation_bytes()

    def to_json(self) -> dict[str, Any]:
        """Everything above as plain numbers, with what each was counted by."""
        config = self.config
        lengths = _contexts(config.max_positions)
        result: dict[str, Any] = {
            "kind": config.kind,
            "parameters": self.parameters,
            "parts": asdict(self.parts),
            "attention_projection_parameters": self.parts.attention_projections,
            "embedding_parameters": self.parts.embedding,
            "flops_per_token": self.flops_per_token,
            "attention_flops_per_token": {
                str(n): self.attention_flops_per_token(n) for n in lengths
            },
            "kv_cache_bytes_per_token": self.kv_cache_bytes_per_token,
            "kv_cache_bytes": {str(n): self.kv_cache_bytes(n) for n in lengths},
            "training_memory_bytes": self.training_memory_bytes,
            "training": {
                "state_bytes": self.training_state_bytes,
                "activation_bytes": self.activation_bytes(),
                "batch": 1,
                "length": min(config.max_positions, DEFAULT_LENGTH),
            },
            "notes": self.notes(),
        }
        if config.decoder is not None and config.decoder.attention.local is not None:
            window = config.decoder.attention.local.window
            result["local_layers"] = {"layers": _local_layers(config.decoder), "window": window}
        if config.kind == "encoder-decoder":
            result["flops_per_source_token"] = self.flops_per_source_token
            result["cross_cache_bytes_per_source_token"] = self.cross_cache_bytes_per_source_token
        return result

    def notes(self, lang: str = "en") -> list[str]:
        """How the numbers were counted, in sentences."""
        length = min(self.config.max_positions, DEFAULT_LENGTH)
        kind = self.config.kind.replace("-", "_")
        lines = [text("count.note_flops", lang), text(f"count.note_{kind}", lang)]
        decoder = self.config.decoder
        if decoder is not None:
            lines.append(text("count.note_cache", lang))
            if (local := decoder.attention.local) is not None:
                lines.append(
                    text(
                        "count.note_local", lang, layers=_local_layers(decoder), window=local.window
                    )
                )
        return [*lines, text("count.note_training", lang, length=length)]


def count(config: Config) -> Count:
    """The costs of the model that `config` describes."""
    return Count(config, _parts(config))


def _parts(config: Config) -> Parts:
    dim, embedding, stacks = config.dim, config.embedding, config.stacks.values()
    attentions = [(a, s.layers) for s in stacks for a in (s.attention, s.cross) if a is not None]
    learned = embedding.positions == "learned"
    rows = config.max_positions + embedding.position_offset
    return Parts(
        token_embedding=config.vocab_size * dim,
        position_embedding=len(stacks) * rows * dim if learned else 0,
        segment_embedding=len(stacks) * embedding.segments * dim,
        attention_projections=sum(n * _projections(a, dim) for a, n in attentions),
        attention_biases=sum(n * _biases(a, dim) for a, n in attentions),
        relative_bias=sum(
            s.attention.relative.buckets * s.attention.heads for s in stacks if s.attention.relative
        ),
        feedforward=sum(s.layers * _feedforward(s.feedforward, dim) for s in stacks),
        norms=len(stacks) * _norm(embedding.norm, dim) + sum(_stack_norms(s, dim) for s in stacks),
        head=_head(config),
        pooler=dim * dim + dim if config.pooler else 0,
    )


def _projections(a: Attention, dim: int) -> int:
    """Query and output (heads * head_dim, dim) each, key and value (kv_heads * head_dim, dim)."""
    return 2 * dim * a.head_dim * (a.heads + a.kv_heads)


def _biases(a: Attention, dim: int) -> int:
    return a.bias * a.head_dim * (a.heads + 2 * a.kv_heads) + a.output_bias * dim


def _feedforward(f: FeedForward, dim: int) -> int:
    return _feedforward_weights(f, dim) + f.bias * ((1 + f.gated) * f.hidden + dim)


def _feedforward_weights(f: FeedForward, dim: int) -> int:
    return (2 + f.gated) * dim * f.hidden


def _norm(norm: Norm | None, dim: int) -> int:
    """LayerNorm has weight and bias, RMSNorm a weight."""
    return 0 if norm is None else dim * (2 if norm.kind == "layer" else 1)


def _stack_norms(s: Stack, dim: int) -> int:
    sublayers = 2 if s.cross is None else 3
    places = s.layers * sublayers * len(s.norm_places) + s.final_norm
    queries_and_keys = sum(
        2 * _norm(a.qk_norm, a.head_dim) for a in (s.attention, s.cross) if a is not None
    )
    return places * _norm(s.norm, dim) + s.layers * queries_and_keys


def _head(config: Config) -> int:
    head, dim, words = config.head, config.dim, config.vocab_size
    if head is None:
        return 0
    transform = dim * dim + dim if head.transform is not None else 0
    return (not head.tied) * words * dim + head.bias * words + transform + _norm(head.norm, dim)


def _head_weights(config: Config) -> int:
    """Matrix weights a token passes in the head; a tied table is multiplied with like any other."""
    if config.head is None:
        return 0
    return config.vocab_size * config.dim + (config.head.transform is not None) * config.dim**2


def _layer_weights(s: Stack, dim: int) -> int:
    cross = 0 if s.cross is None else _projections(s.cross, dim)
    return _projections(s.attention, dim) + cross + _feedforward_weights(s.feedforward, dim)


def _key_value_weights(a: Attention, dim: int) -> int:
    return 2 * dim * a.head_dim * a.kv_heads


def _cached_bytes(a: Attention) -> int:
    return 2 * a.kv_heads * a.head_dim * CACHE_BYTES


def _reach(s: Stack) -> list[tuple[int, int | None]]:
    """(layers, window): those that see everything, and those that see `window` positions."""
    if s.attention.local is None:
        return [(s.layers, None)]
    local = _local_layers(s)
    return [(s.layers - local, None), (local, s.attention.local.window)]


def _local_layers(s: Stack) -> int:
    return (
        0
        if s.attention.local is None
        else len(set(s.attention.local.layers) & set(range(s.layers)))
    )


def _layer_activations(s: Stack, dim: int, length: int) -> int:
    """Bytes per token: on GPT's shape 11h + 5as (attention) + 19h (feed-forward) + 2h each norm."""
    kept = sum(
        _attention_activations(a, dim, length) for a in (s.attention, s.cross) if a is not None
    )
    hidden = (
        4 if s.feedforward.gated else 2
    ) * s.feedforward.hidden  # gate, activated, up, product; or up, activated
    kept += ACTIVATION_BYTES * (dim + hidden) + MASK_BYTES * dim
    sublayers = 2 if s.cross is None else 3
    return kept + ACTIVATION_BYTES * sublayers * len(s.norm_places) * dim


def _attention_activations(a: Attention, dim: int, length: int) -> int:
    """Input, query, key, value, what the output matrix reads, pattern before and after dropout."""
    values = dim + 2 * a.head_dim * (a.heads + a.kv_heads) + 2 * a.heads * length
    return ACTIVATION_BYTES * values + MASK_BYTES * (dim + a.heads * length)


def _contexts(longest: int) -> list[int]:
    """Context lengths worth listing: powers of four from 128, and the model's own."""
    return [n for n in (128 * 4**i for i in range(8)) if n < longest] + [longest]
