"""What the lesson computes: one vector through one layer, and what a layer does that learned
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from lucidlm.checkpoint.handmade import write_handmade
from lucidlm.checkpoint.load import read_config
from lucidlm.config import Config, NormPlace
from lucidlm.lessons.kinds import Array, Table, Value
from lucidlm.lessons.one_word import model as hand
from lucidlm.lessons.running import opened, watched
from lucidlm.lessons.telling import Lesson, Words

KNOWN = ("<SOS>", "我", "很")
LAYER = "layers.0"
STAGES = (
    ("goes_in", "residual_in"),
    ("attention", "attention.output"),
    ("added", "attention_norm.added"),
    ("normalised", "attention_norm.residual.output"),
    ("up", "feedforward.up"),
    ("activated", "feedforward.activated"),
    ("down", "feedforward.output"),
    ("added_again", "feedforward_norm.added"),
    ("comes_out", "residual_out"),
)
OLD, NEW = "transformer-base", "gpt2"


def values(say: Words) -> dict[str, Value]:
    ids = [hand.WORDS.index(word) for word in KNOWN]
    seen = watched(opened(hand.write), ids)
    other = watched(opened(hand.write), [ids[1], *ids[1:]])  # another first word
    rows = tuple(
        (say(name), f"{LAYER}.{noun}", _vector(seen[f"{LAYER}.{noun}"][-1]))
        for name, noun in STAGES
    )
    normal = seen[f"{LAYER}.attention_norm.residual.normalized"][-1]
    wide = seen[f"{LAYER}.feedforward.up"][-1]
    moved = {
        name: float(np.abs(seen[f"{LAYER}.{noun}"] - other[f"{LAYER}.{noun}"])[-1].max())
        for name, noun in (("before", "residual_in"), ("after", "attention.output"))
    }
    return {
        "known": KNOWN,
        "last": KNOWN[-1],
        "stages": Table((say("stage"), say("address"), say("vector")), rows),
        "before_mean": float(seen[f"{LAYER}.attention_norm.added"][-1].mean()),
        "mean": float(normal.mean()),
        "variance": float(normal.var()),
        "dim": len(normal),
        "wide": len(wide),
        "first": KNOWN[0],
        "second": KNOWN[1],
        "moved_before": moved["before"],
        "moved_after": moved["after"],
        **_untaught(),
        **_published(say),
    }


def _untaught() -> dict[str, Value]:
    """What goes into and comes out of a layer whose sub-layers give zeros, by place of the norm."""
    causal = hand.config("causal")
    assert causal.decoder is not None
    vectors = {"embedding.positions.weight": np.vstack([hand.PLACES[1:4], np.zeros((5, 3))])}
    found: dict[str, Value] = {}
    places: dict[str, tuple[NormPlace, ...]] = {"post": ("residual",), "pre": ("input",)}
    for name, where in places.items():
        config = replace(causal, decoder=replace(causal.decoder, norm_places=where))
        seen = watched(opened(partial(_zeros, config, vectors)), [hand.BLANK] * 3)
        found["zero_in"] = seen[f"{LAYER}.residual_in"][-1]
        found[f"zero_{name}"] = seen[f"{LAYER}.residual_out"][-1]
    change = seen[f"{LAYER}.residual_out"] - seen[f"{LAYER}.residual_in"]  # of the last, pre-norm
    return found | {"change": float(np.abs(change).max())}


def _zeros(config: Config, weights: Mapping[str, ArrayLike], folder: Path) -> Path:
    return write_handmade(
        folder, config, weights, hand.WORDS, start="<SOS>", end="<EOS>", dtype="F64"
    )


def _published(say: Words) -> dict[str, Value]:
    """Where two published models have their norms, and how wide they are."""
    rows = []
    for name in (OLD, NEW):
        config = read_config(name)
        stack = config.decoder
        assert stack is not None
        place = say("after" if "residual" in stack.norm_places else "before")
        rows.append((name, stack.layers, config.dim, stack.feedforward.hidden, place))
    heads = (say("model"), say("layers"), "d_model", say("width"), say("norm"))
    return {"published": Table(heads, tuple(rows))}


def _vector(vector: Array) -> str:
    return "[" + ", ".join(f"{x:g}" for x in vector.round(4) + 0.0) + "]"


LESSON = Lesson(values=values)
