"""What the lesson computes: one head of the decoder that is set by hand, step by step."""

from __future__ import annotations

import numpy as np

from lucidlm.checkpoint.load import read_config
from lucidlm.lessons.kinds import Array, Bars, Matrix, Table, Value
from lucidlm.lessons.one_word import model as hand
from lucidlm.lessons.running import opened, watched
from lucidlm.lessons.telling import Lesson, Words
from lucidlm.reference.equations import softmax

KNOWN = ("<SOS>", "我", "很")
HEAD = "layers.0.attention"
MASKED = -999.0  # what the article writes in place of a share
PRESET = "gpt2"


def values(say: Words) -> dict[str, Value]:
    seen = watched(opened(hand.write), [hand.WORDS.index(word) for word in KNOWN])
    x = seen["layers.0.residual_in"]
    query, key, value = (seen[f"{HEAD}.{name}"][:, 0] for name in ("query", "key", "value"))
    products, scores = (seen[f"{HEAD}.{name}"][0] for name in ("products", "scores"))
    pattern, mixed = seen[f"{HEAD}.pattern"][0], seen[f"{HEAD}.mixed"][:, 0]
    terms = pattern[-1][:, None] * value
    made = {"x": x, "query": query, "key": key, "value": value}
    return {
        "known": KNOWN,
        "last": KNOWN[-1],
        "vectors": Table(
            (say("made"), *KNOWN), tuple((name, *map(_vector, m)) for name, m in made.items())
        ),
        "products": products[-1],
        "size": hand.DIM,
        "root": float(np.sqrt(hand.DIM)),
        "scores": scores[-1],
        "masked_scores": Matrix(KNOWN, KNOWN, scores, shaded=False),
        "pattern": Matrix(KNOWN, KNOWN, pattern),
        "shares": Bars.of(KNOWN, pattern[-1]),
        "terms": Matrix(
            (*KNOWN, say("sum")),
            tuple(say("dim", at=i) for i in range(hand.DIM)),
            np.vstack([terms, terms.sum(0)]),
            ".4f",
            shaded=False,
        ),
        "mixed": mixed[-1],
        **_misplaced(say, products / np.sqrt(hand.DIM), value),
        **_many(),
    }


def _misplaced(say: Words, scores: Array, value: Array) -> dict[str, Value]:
    """The second word's vector, with the mask where the article has it and where it belongs."""
    at, ahead = 1, slice(2, None)  # 我 may not see what comes after it
    late = softmax(scores[at])
    late[ahead] = MASKED
    early, never = scores[at].copy(), scores[at].copy()
    early[ahead], never[ahead] = MASKED, -np.inf
    ways = (("late", late), ("early", softmax(early)), ("never", softmax(never)))
    return {
        "middle": KNOWN[at],
        "hidden": KNOWN[ahead],
        "late_total": float(late.sum()),
        "masks": Table(
            (say("mask"), say("total"), say("mixture")),
            tuple(
                (say(name, masked=MASKED), float(way.sum()), _vector(way @ value))
                for name, way in ways
            ),
            ".2f",
        ),
        "early_difference": float(np.abs(ways[1][1] - ways[2][1]).max()),
    }


def _many() -> dict[str, Value]:
    """The heads of a published model."""
    config = read_config(PRESET)
    assert config.decoder is not None
    attention = config.decoder.attention
    return {
        "heads": attention.heads,
        "head_dim": attention.head_dim,
        "dim": config.dim,
        "layers": config.decoder.layers,
        "all_heads": attention.heads * config.decoder.layers,
    }


def _vector(vector: Array) -> str:
    return "[" + ", ".join(f"{x:.3g}" for x in vector.round(9) + 0.0) + "]"


LESSON = Lesson(values=values, article={"masked": MASKED})
