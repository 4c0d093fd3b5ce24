"""The decoder of the lesson, set by hand so that it computes the article's figures.

Its matrices are small whole numbers, chosen so that the sentence comes out. Each bias is then the
one that makes slot 3 what the article says: the figure wanted, less what comes without it.

The vectors are chosen so that two readings agree: a word in slot p, with the place's vector, is the
same vector as the empty slot p + 1. So a strict mask with an empty slot, and a causal mask with the
last known word, compute the same numbers one slot apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lucidlm.checkpoint.handmade import write_handmade
from lucidlm.config import Attention, Config, Embedding, FeedForward, Head, MaskKind, Norm, Stack
from lucidlm.lessons.kinds import Array

WORDS = ("<SOS>", "我", "很", "开心", "<EOS>")
BLANK = WORDS.index("<EOS>")  # what an empty slot holds: its vector is zero
SLOT = 3  # the one that the article fills
DIM, HIDDEN = 3, 6

ARTICLE: dict[str, tuple[float, ...]] = {
    "input": (0.1, 0.2, 0.3),
    "pattern": (0.1, 0.3, 0.6),
    "attention": (0.8, 1.2, 0.4),
    "added": (0.9, 1.4, 0.7),
    "norm": (0.0, 1.0, -0.5),
    "hidden": (0.5, -0.2, 1.8, 0.1, -1.0, 0.9),
    "activated": (0.5, 0.0, 1.8, 0.1, 0.0, 0.9),
    "feedforward": (1.5, 0.2, 2.0),
    "added_again": (1.5, 1.2, 1.5),
    "norm_again": (0.8, 0.1, 1.5),
    "logits": (-0.2, 1.0, 0.5, 3.0, -1.0),
    "probabilities": (0.05, 0.15, 0.10, 0.65, 0.05),
}

# what an empty slot is, by its number
PLACES = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), ARTICLE["input"], (0, 0, 1)])
VALUE = np.array([(0, -1, -1), (-1, 0, -1), (1, 1, 1)])
UP = np.array([(0, 1, 1), (-1, 1, 0), (1, 0, -1), (-1, -1, 1), (1, 1, -1), (0, 1, 1)])
DOWN = np.array([(-1, 1, 1, 1, 0, -1), (0, -1, -1, 1, 1, -1), (1, -1, -1, -1, -1, 1)])
HEAD = np.array([(0, 0, 0), (3, -1, -2), (-3, 1, 2), (1, -3, 1), (-1, 3, -2)])


def config(mask: MaskKind) -> Config:
    """One layer, post-norm, ReLU, one head, a linear head with bias; "strict" is the article's
    mask.
    """
    attention = Attention(
        heads=1, kv_heads=1, head_dim=DIM, scale=DIM**-0.5, bias=True, output_bias=True
    )
    decoder = Stack(
        layers=1,
        attention=attention,
        feedforward=FeedForward(hidden=HIDDEN, activation="relu", bias=True),
        norm=Norm(eps=1e-12),
        norm_places=("residual",),
        mask=mask,
    )
    return Config(
        dim=DIM,
        vocab_size=len(WORDS),
        max_positions=8,
        embedding=Embedding(positions="learned"),
        decoder=decoder,
        head=Head(tied=False, bias=True),
    )


def weights() -> dict[str, Array]:
    """Every parameter that is not zero (of a norm's weight: one), by address."""
    wanted = {name: np.array(figure) for name, figure in ARTICLE.items()}
    words = np.vstack([np.diff(PLACES, axis=0), np.zeros(DIM)])  # from one slot to the next
    places = np.vstack([PLACES, np.zeros((8 - len(PLACES), DIM))])
    seen = PLACES[1 : SLOT + 1]  # the words before the slot, each with its place
    query = np.linalg.solve(seen, np.log(wanted["pattern"])) / DIM**-0.5
    at, attention, feedforward = "layers.0", "layers.0.attention", "layers.0.feedforward"
    return {
        "embedding.tokens.weight": words,
        "embedding.positions.weight": places,
        f"{attention}.query.weight": np.eye(DIM),
        f"{attention}.query.bias": query - wanted["input"],
        f"{attention}.key.weight": np.eye(DIM),
        f"{attention}.value.weight": VALUE,
        f"{attention}.output.weight": np.eye(DIM),
        f"{attention}.output.bias": wanted["attention"] - wanted["pattern"] @ (seen @ VALUE.T),
        f"{at}.attention_norm.residual.bias": wanted["norm"] - layer_norm(wanted["added"]),
        f"{feedforward}.up.weight": UP,
        f"{feedforward}.up.bias": wanted["hidden"] - UP @ wanted["norm"],
        f"{feedforward}.down.weight": DOWN,
        f"{feedforward}.down.bias": wanted["feedforward"] - DOWN @ wanted["activated"],
        f"{at}.feedforward_norm.residual.bias": wanted["norm_again"]
        - layer_norm(wanted["added_again"]),
        "head.weight": HEAD,
        "head.bias": wanted["logits"] - HEAD @ wanted["norm_again"],
    }


def layer_norm(x: Array) -> Array:
    """LayerNorm without scale and shift: mean 0, variance 1."""
    centred = x - x.mean()
    normalized: Array = centred / np.sqrt((centred**2).mean())
    return normalized


def write(folder: str | Path, mask: MaskKind = "causal") -> Path:
    """The model as a checkpoint folder, which `lucidlm.load` opens."""
    return write_handmade(
        Path(folder), config(mask), weights(), WORDS, start="<SOS>", end="<EOS>", dtype="F64"
    )
