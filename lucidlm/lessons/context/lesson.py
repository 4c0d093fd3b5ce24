"""What the lesson computes: the vector of 模 in four sentences, before and after every layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from lucidlm.api import load
from lucidlm.lessons.kinds import Array, Matrix, Pieces, Table, Value
from lucidlm.lessons.telling import Lesson, Needs, Words
from lucidlm.reference.equations import softmax

CHARACTER, NEXT = "模", "型"
SENTENCES = ("他在训练大模型", "我在训练大模型", "她是一名模特", "我是一名模特")
PAIRS = {"across": (0, 2), "model_twice": (0, 1), "person_twice": (2, 3)}
SHOWN = 8  # layers
MODELS = ("smollm2-135m",)  # has bytes of 模 by themselves


@dataclass(frozen=True, eq=False)
class Reading:
    """One sentence through the model: its pieces, those of 模, the stream there, what is next."""

    pieces: tuple[str, ...]
    places: tuple[int, ...]
    stream: Array  # (layers + 1, positions, dim)
    share: float  # of NEXT behind 模

    @property
    def vectors(self) -> Array:
        """(layers + 1, dim) at the last piece of 模."""
        vectors: Array = self.stream[:, self.places[-1]]
        return vectors


@cache
def readings(name: str) -> tuple[Reading, ...]:
    """Every sentence, through the model called `name`."""
    model = load(name)
    assert model.config is not None and model.config.decoder is not None
    layers = range(model.config.decoder.layers)
    (next_id,) = model.tokenizer.encode(NEXT)
    found = []
    for sentence in SENTENCES:
        trace = model.trace(sentence, max_new_tokens=1, keep=["*.residual_out"])
        tokens = trace.tokens[: trace.prompt_length]
        places = tuple(t.position for t in tokens if t.label.startswith(CHARACTER))
        after = [trace[f"layers.{layer}.residual_out"] for layer in layers]
        stream = np.stack([trace["layers.0.residual_in"], *after]).astype(float)
        share = float(softmax(trace["head.logits"][places[-1]])[next_id])
        found.append(Reading(tuple(t.label for t in tokens), places, stream, share))
    return tuple(found)


def values(say: Words) -> dict[str, Value]:
    one, two = (SENTENCES[at] for at in PAIRS["across"])
    return {"character": CHARACTER, "sentences": len(SENTENCES), "one": one, "two": two}


def pieces(say: Words, name: str) -> dict[str, Value]:
    found = readings(name)
    rows = tuple((s, r.pieces) for s, r in zip(SENTENCES, found, strict=True))
    first = found[0]
    return {
        "model": name,
        "pieces": Pieces(rows),
        "bytes": len(CHARACTER.encode()),
        "parts": len(first.places),
        "piece": first.pieces[first.places[-1]],
    }


def layers(say: Words, name: str) -> dict[str, Value]:
    """How alike the vectors are after each layer: in like company and in other."""
    found = readings(name)
    vectors = [reading.vectors for reading in found]
    alike = {key: cosines(vectors[a], vectors[b]) for key, (a, b) in PAIRS.items()}
    depth = len(vectors[0]) - 1
    shown = sorted({round(depth * i / (SHOWN - 1)) for i in range(SHOWN)})
    rows = tuple((layer, *(float(each[layer]) for each in alike.values())) for layer in shown)
    last = np.array([[cosines(a, b)[-1] for b in vectors] for a in vectors])
    numbers = tuple(say("number", at=at) for at in range(1, len(SENTENCES) + 1))
    before = found[0].places[0] - 1
    return {
        "depth": depth,
        "layers": Table((say("layer"), *map(say, alike)), rows, ".3f"),
        "at_start": float(alike["across"][0]),
        "at_end": float(alike["across"][-1]),
        "models": float(alike["model_twice"][-1]),
        "persons": float(alike["person_twice"][-1]),
        "last": Matrix(SENTENCES, numbers, last, ".3f"),
        "stranger": found[0].pieces[before],
        "strange": float(cosines(vectors[0], found[0].stream[:, before])[-1]),
    }


def following(say: Words, name: str) -> dict[str, Value]:
    """What the model expects after 模."""
    pairs = zip(SENTENCES, readings(name), strict=True)
    rows = tuple((sentence, reading.share) for sentence, reading in pairs)
    return {
        "next": NEXT,
        "following": Table((say("sentence"), say("share", next=NEXT)), rows, ".1%"),
    }


def cosines(one: Array, two: Array) -> Array:
    """Of each row with its fellow, (rows,)."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(two, axis=-1)
    found: Array = (one * two).sum(-1) / lengths
    return found


BEATS = {"pieces": pieces, "layers": layers, "following": following}
LESSON = Lesson(values=values, needs={beat: Needs(MODELS, run) for beat, run in BEATS.items()})
