"""What the lesson computes: n-gram models of the dog's text, and a Transformer that agrees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lucidlm.checkpoint.load import read_config
from lucidlm.classical import dog
from lucidlm.engine import Engine, ForwardContext
from lucidlm.lessons.kinds import Array, Bars, Figures, Inline, Matrix, Table, Value
from lucidlm.lessons.looking_back import model as looking_back
from lucidlm.lessons.running import watched
from lucidlm.lessons.telling import Lesson, Words, figure
from lucidlm.reference.equations import softmax

ACTS = ("吃饭", "睡觉", "跑步")
ACT = "跑步"
ORDER = 4  # of the model that sees the act
VECTOR, ANSWER = (0.0, 0.0, 0.0, 0.6, 0.3, 0.1), "吃饭"
ARTICLE: dict[str, Inline] = {"vector": VECTOR, "answer": ANSWER}
IMPOSSIBLE = -30.0  # logit of a word that was never counted
LARGE = "gpt3-175b"


def question(act: str) -> list[int]:
    """The ids of 我 刚才 `act`，我 现在 with the next word wanted."""
    return dog.WORDS.encode(f"我 刚才 {act}，我 现在")


def values(say: Words) -> dict[str, Value]:
    return language(say) | counted(say) | far(say) | attended(say)


def language(say: Words) -> dict[str, Value]:
    lines = dog.text().splitlines()
    words = dog.WORDS.words
    return {
        "act": ACT,
        "words": len(words),
        "sentences": len(lines),
        "example": lines[0],
        "vocabulary": Table((say("id"), say("word")), tuple(enumerate(words))),
        "ids": question(ACT),
    }


def counted(say: Words) -> dict[str, Value]:
    """The model that sees far enough."""
    model, words = dog.model(ORDER), dog.WORDS.words
    places = [words.index(act) for act in ACTS]
    table = np.array([model.counts(question(act))[places] for act in ACTS], float)
    vector = model.probabilities(question(ACT))
    answer = words[int(vector.argmax())]
    rows = (
        figure(say, "vector", VECTOR, vector, each=int(table.sum(1)[ACTS.index(ACT)])),
        figure(say, "answer", ANSWER, answer),
    )
    return {
        "counts": Matrix(tuple(say("after", act=act) for act in ACTS), ACTS, table, ".0f"),
        "each": int(table.sum(1)[0]),
        "vector": vector,
        "answer": answer,
        "bars": Bars.of(words, vector),
        "figures": Figures(rows),
    }


def far(say: Words) -> dict[str, Value]:
    """How much each model sees, and what a longer view would cost."""
    ids, words = question(ACT), dog.WORDS
    orders = range(2, ORDER + 1)
    seen = [words.decode(ids[len(ids) + 1 - order :]) for order in orders]
    shares = [dog.model(order).probabilities(ids)[3:] for order in orders]
    rows = tuple((text, *row.tolist()) for text, row in zip(seen, shares, strict=True))
    large = read_config(LARGE)
    before = len(ids) - ids.index(words.encode(ACT)[0])
    return {
        "orders": Table((say("sees"), *ACTS), rows, ".3f"),
        "before": before,
        "too_near": [str(order - 1) for order in orders][:-1],
        "enough": ORDER - 1,
        "overall": shares[0],
        "contexts": len(words.words) ** before,
        "large": LARGE,
        "large_words": large.vocab_size,
        "large_contexts": float(large.vocab_size**before),
        "window": large.max_positions,
    }


def table() -> Array:
    """Logits of the next word by the act that was found: the logarithms of what was counted."""
    logits = np.zeros((len(dog.WORDS.words),) * 2)
    for act in ACTS:
        counts = dog.model(ORDER).counts(question(act))
        share = np.maximum(counts, 1) / counts.sum()
        logits[dog.WORDS.encode(act)[0]] = np.where(counts > 0, np.log(share), IMPOSSIBLE)
    return logits


def attended(say: Words) -> dict[str, Value]:
    """The same question to a Transformer of one layer."""
    ids, words = question(ACT), dog.WORDS
    back = ids[::-1].index(words.encode(ACT)[0])
    model = looking_back(words, table(), back, len(ids) + 1)
    seen = watched(model, ids)
    labels = tuple(words.words[id] for id in ids)
    pattern = seen["layers.0.attention.pattern"][0]
    at = ids.index(words.encode(ACT)[0])
    counting, transformer = probabilities(dog.model(ORDER), ids), probabilities(model.engine, ids)
    both = zip(words.words, counting.tolist(), transformer.tolist(), strict=True)
    others = [act for act in ACTS if act != ACT]
    same = Matrix(
        tuple(say("after", act=act) for act in others),
        words.words,
        np.stack([probabilities(model.engine, question(act)) for act in others]),
    )
    assert model.config is not None
    return {
        "dim": model.config.dim,
        "places": len(ids) + 1,
        "back": back,
        "pattern": Matrix(labels, labels, pattern),
        "elsewhere": float(np.delete(pattern[-1], at).sum()),
        "last": labels[-1],
        "both": Table((say("word"), say("counting"), say("transformer")), tuple(both), ".6f"),
        "difference": float(np.abs(counting - transformer).max()),
        "same": same,
        "added": float(np.abs(seen["layers.0.feedforward.output"]).max()),
    }


def probabilities(engine: Engine, ids: Sequence[int]) -> Array:
    """The next word's, over the whole vocabulary: the same call for every engine."""
    return softmax(engine.step([ids], ForwardContext())[0])


LESSON = Lesson(values=values, article=ARTICLE)
