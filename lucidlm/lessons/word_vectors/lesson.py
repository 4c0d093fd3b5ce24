"""What the lesson computes: an analogy on vectors set by hand, and the same on GloVe's."""

from __future__ import annotations

from functools import cache

import numpy as np

from lucidlm.checkpoint.catalogue import find
from lucidlm.classical import WordVectors
from lucidlm.classical.vectors import Neighbour
from lucidlm.engine import Floats
from lucidlm.lessons.kinds import Figures, Inline, Matrix, Table, Value
from lucidlm.lessons.telling import Lesson, Needs, Words, figure

SUM, PLURAL = "king - man + woman", "king - man + women"
GLOVE = "glove-6b-50d"
QUEEN = "queen"
ARTICLE: dict[str, Inline] = {"answer": QUEEN, "sum": SUM}
SET = {  # royal, female, human
    "king": (0.9, 0.1, 0.8),
    "queen": (0.9, 0.9, 0.8),
    "man": (0.1, 0.1, 0.9),
    "woman": (0.1, 0.9, 0.9),
    "dog": (0.0, 0.4, 0.1),
}
TOP = 5
PAIRS = (("king", "queen"), ("king", "man"), ("king", "cabbage"), ("good", "bad"))


def values(say: Words) -> dict[str, Value]:
    vectors = WordVectors(tuple(SET), np.array(list(SET.values()), np.float32))
    dims = tuple(map(say, ("royal", "female", "human")))
    found = vectors.analogy(SUM, TOP)
    signs = [(term.sign, term.word) for term in found.terms]
    total = np.sum([sign * vectors.vector(word) for sign, word in signs], axis=0)
    return {
        "set": Matrix(tuple(SET), dims, vectors.matrix),
        "expression": SUM,
        "total": total,
        "set_answer": found.nearest[0].word,
        "set_similarity": found.nearest[0].similarity,
    }


@cache
def glove(name: str) -> WordVectors:
    return WordVectors.load(find(name).folder)


def near(say: Words, name: str) -> dict[str, Value]:
    """What GloVe's vectors look like, and which of them are alike."""
    vectors = glove(name)
    rows = tuple((a, b, _cosine(vectors.vector(a), vectors.vector(b))) for a, b in PAIRS)
    first, *_ = PAIRS[0]
    return {
        "words": len(vectors.words),
        "dim": vectors.dim,
        "first": first,
        "few": vectors.vector(first)[:TOP],
        "alike": Table((say("word"), say("word"), say("cosine")), rows, ".3f"),
    }


def real(say: Words, name: str) -> dict[str, Value]:
    """Both lists, with the words that were put in and without them."""
    found = glove(name).analogy(SUM, TOP)
    start = found.nearest[0]
    best = found.nearest_others[0]
    rows = (
        figure(say, "nearest", QUEEN, start.word, similarity=start.similarity),
        figure(say, "others", QUEEN, best.word, similarity=best.similarity),
    )
    return {
        "lists": _lists(say, found.nearest, found.nearest_others),
        "nearest_word": start.word,
        "nearest_similarity": start.similarity,
        "best_word": best.word,
        "best_similarity": best.similarity,
        "figures": Figures(rows),
    }


def plural(say: Words, name: str) -> dict[str, Value]:
    """The article's plural."""
    found = glove(name).analogy(PLURAL, TOP)
    best = found.nearest_others[0]
    singular, several = (glove(name).vector(word) for word in ("woman", "women"))
    rows = (figure(say, "plural", QUEEN, best.word, similarity=best.similarity),)
    return {
        "plural": PLURAL,
        "plural_lists": _lists(say, found.nearest, found.nearest_others),
        "plural_figures": Figures(rows),
        "singular_plural": _cosine(singular, several),
    }


def _lists(say: Words, every: tuple[Neighbour, ...], others: tuple[Neighbour, ...]) -> Table:
    heads = (say("all"), say("cosine"), say("without"), say("cosine"))
    pairs = zip(every, others, strict=True)
    rows = tuple((a.word, a.similarity, b.word, b.similarity) for a, b in pairs)
    return Table(heads, rows, ".3f")


def _cosine(one: Floats, two: Floats) -> float:
    return float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))


NEEDS = {
    beat: Needs((GLOVE,), run) for beat, run in (("near", near), ("real", real), ("plural", plural))
}
LESSON = Lesson(values=values, article=ARTICLE, needs=NEEDS)
