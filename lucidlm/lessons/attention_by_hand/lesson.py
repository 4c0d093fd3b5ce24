"""What the lesson computes: random vectors for seven characters, and one attention over them."""

from __future__ import annotations

import numpy as np

from lucidlm.lessons.kinds import Bars, Figures, Inline, Matrix, Table, Value, times
from lucidlm.lessons.telling import Lesson, Words, figure
from lucidlm.reference.equations import softmax

SENTENCE, QUERY = "写代码的中年人", "年"
DIM, SEED = 4, 7
# vectors set by hand, by what they are about: weather, mood, going out
SET = {
    "今天": (0.3, 0.0, 0.0),
    "天气": (1.0, 0.2, 0.0),
    "很好": (0.6, 1.0, 1.0),
    "我": (0.0, 0.2, 0.1),
    "想去": (0.0, 0.1, 0.7),
    "爬山": (0.4, 1.0, 1.0),
}
WORDS, APPLE = ("苹果", "我", "爱"), (0.6, 0.2, 0.1)
CAFE = (0.7, 0.2, 0.1)
PAIR = ("很好", "爬山")
ARTICLE: dict[str, Inline] = {
    "words": WORDS,
    "apple": APPLE,
    "cafe": CAFE,
    "one": PAIR[0],
    "two": PAIR[1],
}


def values(say: Words) -> dict[str, Value]:
    return hand(say) | apple(say) | cafe(say) | weather()


def hand(say: Words) -> dict[str, Value]:
    """Vectors, dot products, softmax, weighted sum for one query; then without itself, then for
    all.
    """
    characters = tuple(SENTENCE)
    vectors = np.random.default_rng(SEED).standard_normal((len(characters), DIM)).round(2)
    at = characters.index(QUERY)
    scores = vectors @ vectors[at]
    weights = softmax(scores)
    others = softmax(np.where(np.arange(len(characters)) == at, -np.inf, scores))
    terms = weights[:, None] * vectors
    every = softmax(vectors @ vectors.T)
    dims = tuple(say("dim", at=i) for i in range(DIM))
    powers = zip(characters, scores.tolist(), np.exp(scores).tolist(), strict=True)
    both = zip(characters, weights.tolist(), others.tolist(), strict=True)
    pairs = zip(vectors[at], vectors[at - 1], strict=True)
    return {
        "sentence": SENTENCE,
        "query": QUERY,
        "count": len(characters),
        "dim": DIM,
        "vectors": Matrix(characters, dims, vectors, shaded=False),
        "neighbour": characters[at - 1],
        "products": " + ".join(f"{_factor(x)}×{_factor(y)}" for x, y in pairs),
        "score": float(scores[at - 1]),
        "own_score": float(scores[at]),
        "scores": Table((say("character"), say("score"), say("exp")), tuple(powers), ".3f"),
        "total": float(np.exp(scores).sum()),
        "weights": Bars.of(characters, weights),
        "sum": float(weights.sum()),
        "terms": Matrix((*characters, say("sum")), dims, np.vstack([terms, terms.sum(0)]), ".3f"),
        "before": vectors[at],
        "context": terms.sum(0),
        "both": Table((say("character"), say("all"), say("others")), tuple(both), ".3f"),
        "own_share": float(weights[at]),
        "rest": len(characters) - 1,
        "context_others": others @ vectors,
        "every": Matrix(characters, characters, every),
        "shape_in": times(*vectors.shape),
        "shape_out": times(*(every @ vectors).shape),
    }


def _factor(value: float) -> str:
    return f"({value:.2f})" if value < 0 else f"{value:.2f}"


def apple(say: Words) -> dict[str, Value]:
    """What the article's weights leave over, and scores that make weights with nothing over."""
    given = np.array(APPLE)
    left = float(1 - given.sum())
    scores = np.log([*given, left])
    labels = (*WORDS, say("itself"))
    row = figure(say, "apple", float(given.sum()), float(softmax(scores).sum()))
    return {
        "left": left,
        "apple_weights": Table(
            (say("word"), say("score"), say("weight")),
            tuple(zip(labels, scores.tolist(), softmax(scores).tolist(), strict=True)),
            ".3f",
        ),
        "apple_figures": Figures((row,)),
    }


def cafe(say: Words) -> dict[str, Value]:
    """Scores behind the café's shares, and what becomes of the shares when scores grow."""
    shares = np.array(CAFE)
    scores = np.log(shares)
    labels = [say(name) for name in ("first", "second", "third")]
    columns = (say("half"), say("plain"), say("twice"))
    grown = np.stack([softmax(scale * scores) for scale in (0.5, 1.0, 2.0)], axis=1)
    return {
        "cafe_sum": float(shares.sum()),
        "cafe_gap": float(scores[0] - scores[1]),
        "cafe_ratio": float(np.exp(scores[0] - scores[1])),
        "cafe_scores": Matrix(tuple(labels), columns, grown),
    }


def weather() -> dict[str, Value]:
    """Two words that belong together look at each other, when their vectors say so."""
    words, vectors = tuple(SET), np.array(list(SET.values()))
    scores = vectors @ vectors.T
    pattern = softmax(scores)
    one, two = map(words.index, PAIR)
    return {
        "weather": Matrix(words, words, pattern),
        "pair_score": float(scores[one, two]),
        "pair_weight": float(pattern[one, two]),
        "even_weight": 1 / len(words),
        "near_score": float(scores[one, words.index("天气")]),
    }


LESSON = Lesson(values=values, article=ARTICLE)
