"""What the runs have in common, and what each leaves out. No PyTorch here."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import partial

from lucidlm.config import Attention, Config, Embedding, FeedForward, Head, Norm, Rope, Stack
from lucidlm.count import count
from lucidlm.train.recipe import (
    DataRecipe,
    OptimiserRecipe,
    Recipe,
    ScheduleRecipe,
    Source,
    TokenizerRecipe,
)

WRITERS = (
    "whole",
    "uniform",
    "no-position",
    "no-mask",
    "no-feedforward",
    "no-residual",
    "no-norm",
    "gru",
    "n-gram",
)
TRANSLATORS = ("decoder-only", "encoder-decoder")
NAMES = (*WRITERS, *TRANSLATORS)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One budget for all: every run sees the same tokens in the same order."""

    dim: int = 64
    heads: int = 4
    layers: int = 4
    context: int = 48  # tokens of a row
    batch: int = 8  # rows of a step
    steps: int = 1200
    rate: float = 8e-3
    warmup: int = 50
    words: int = 1000  # characters that are known; the rest is <unk>
    order: int = 4  # of the n-gram model
    held_out: float = 0.1  # share of the lines
    evaluations: int = 10
    pair_dim: int = 64
    pair_layers: int = 3  # of encoder and decoder each
    pair_batch: int = 32
    pair_steps: int = 500
    pair_rate: float = 4e-3
    seeds: tuple[int, ...] = (1, 2, 3)
    opening: str = "我很"  # how the line begins that a run goes on with
    sentence: str = "我很忙。"  # what is translated

    def recipe(self, seed: int, translates: bool) -> Recipe:
        """The same optimiser for all: AdamW, in float32, not compiled, no dropout."""
        return Recipe(
            data=DataRecipe(train=(Source(path="corpus.txt"),)),
            tokenizer=TokenizerRecipe(kind="char"),
            optimiser=OptimiserRecipe(
                name="adamw", rate=self.pair_rate if translates else self.rate
            ),
            schedule=ScheduleRecipe(warmup=self.warmup),
            seed=seed,
            steps=self.pair_steps if translates else self.steps,
            batch=self.pair_batch if translates else self.batch,
            context=self.context,
            precision="float32",
            attention="explicit",
            compile="off",
        )


SETTINGS = Settings()


def fingerprint(settings: Settings, text: str, pairs: str) -> str:
    """What a record was made from: it changes with any setting and any character."""
    told = "\0".join([repr(sorted(asdict(settings).items())), text, pairs])
    return hashlib.sha256(told.encode("utf-8")).hexdigest()


def config_of(name: str, settings: Settings, vocab_size: int) -> Config:
    """What `Config` can say of the run called `name`; `variants` takes away the rest.

    Where a part with parameters goes, what is left becomes larger until both have as many.
    """
    if name in TRANSLATORS:
        return _translator(name, settings, vocab_size)
    dim, layers, hidden = settings.dim, settings.layers, 4 * settings.dim
    if name == "no-feedforward":
        layers *= 3  # of a layer's 12 dim^2 parameters attention has 4
    if name == "uniform":
        hidden += settings.dim  # in the place of queries and keys
    stack = Stack(
        layers=layers,
        attention=_attention(dim, settings.heads, rope=name != "no-position"),
        feedforward=FeedForward(hidden=hidden, activation="gelu"),
        norm=Norm(kind="rms"),
        norm_places=() if name == "no-norm" else ("input",),
        mask="full" if name == "no-mask" else "causal",
        final_norm=name != "no-norm",
    )
    return Config(
        dim=dim,
        vocab_size=vocab_size,
        max_positions=settings.context,
        embedding=Embedding(),
        decoder=stack,
        head=Head(),
    )


def gru_hidden(settings: Settings, vocab_size: int) -> int:
    """Units of two recurrent layers with as many parameters as the whole Transformer."""
    whole = count(config_of("whole", settings, vocab_size)).parameters
    shared = vocab_size * settings.dim + settings.dim
    return min(range(1, 16 * settings.dim), key=partial(_apart, settings.dim, whole - shared))


def _apart(dim: int, wanted: int, hidden: int) -> int:
    first = 3 * hidden * (dim + hidden + 2)
    second = 3 * hidden * (2 * hidden + 2) + hidden * dim + dim
    return abs(first + second - wanted)


def _translator(name: str, settings: Settings, vocab_size: int) -> Config:
    """3 + 3 layers of an encoder-decoder have 84 dim^2 parameters, as have 7 of a decoder alone."""
    dim, both = settings.pair_dim, name == "encoder-decoder"
    each = partial(
        Stack,
        attention=_attention(dim, settings.heads, rope=True),
        feedforward=FeedForward(hidden=4 * dim, activation="gelu"),
        norm=Norm(kind="rms"),
        norm_places=("input",),
        final_norm=True,
    )
    alone = settings.pair_layers * 28 // 12
    return Config(
        dim=dim,
        vocab_size=vocab_size,
        max_positions=4 * settings.context,
        embedding=Embedding(),
        encoder=each(layers=settings.pair_layers, mask="full") if both else None,
        decoder=each(
            layers=settings.pair_layers if both else alone,
            mask="causal",
            cross=_attention(dim, settings.heads, rope=False) if both else None,
        ),
        head=Head(),
    )


def _attention(dim: int, heads: int, *, rope: bool) -> Attention:
    head = dim // heads
    return Attention(
        heads=heads,
        kv_heads=heads,
        head_dim=head,
        scale=head**-0.5,
        rope=Rope() if rope else None,
    )
