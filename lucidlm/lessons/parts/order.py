"""Two sentences of the same words, to models without training: what cannot be told apart whatever
the weights are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lucidlm.classical.words import Words
from lucidlm.config import Attention, Config, Embedding, FeedForward, Head, Norm, Rope, Stack
from lucidlm.engine import ForwardContext
from lucidlm.parameters import parameters
from lucidlm.reference.engine import Reference

SENTENCES = ("我爱他。", "他爱我。")
WORDS = Words(tuple("我爱他。"), "character")
DIM = 8


def difference(*, causal: bool, position: bool, layers: int) -> float:
    """How far apart the logits behind the two sentences are, at most."""
    ids = [WORDS.encode(sentence) for sentence in SENTENCES]
    model = random_model(causal=causal, position=position, layers=layers)
    one, two = (model.step([row], ForwardContext())[0] for row in ids)
    return float(np.abs(one - two).max())


def random_model(*, causal: bool, position: bool, layers: int, seed: int = 1) -> Reference:
    """A decoder with random weights."""
    attention = Attention(
        heads=2,
        kv_heads=2,
        head_dim=DIM // 2,
        scale=(DIM / 2) ** -0.5,
        rope=Rope() if position else None,
    )
    config = Config(
        dim=DIM,
        vocab_size=WORDS.vocab_size,
        max_positions=8,
        embedding=Embedding(),
        decoder=Stack(
            layers=layers,
            attention=attention,
            feedforward=FeedForward(hidden=2 * DIM, activation="gelu"),
            norm=Norm(kind="rms"),
            norm_places=("input",),
            mask="causal" if causal else "full",
            final_norm=True,
        ),
        head=Head(),
    )
    return Reference(config, _weights(config, np.random.default_rng(seed)))


def _weights(
    config: Config, random: np.random.Generator
) -> Iterator[tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]]:
    for address, shape in parameters(config).items():
        yield address, random.normal(size=shape) / DIM**0.5 + (len(shape) == 1)
