"""What the lesson computes: the article's question in the pieces of every vocabulary at hand."""

from __future__ import annotations

import numpy as np

from lucidlm.api import open_tokenizer
from lucidlm.checkpoint.catalogue import find, is_pulled
from lucidlm.lessons.kinds import Figures, Inline, Matrix, Pieces, Table, Value, times
from lucidlm.lessons.telling import Lesson, Needs, Words, figure
from lucidlm.reference.equations import sinusoids
from lucidlm.text.builtin import KINDS, builtin
from lucidlm.text.explain import explain
from lucidlm.text.spelling import labels
from lucidlm.text.tokenizer import Tokenizer

QUESTION = "世界上最高的山峰是哪座?"
PIECES = 6
ARTICLE: dict[str, Inline] = {"pieces": PIECES}
REAL = ("smollm2-135m", "gemma3-270m", "minilm-l6")
KIND, DIM, SEED = "unigram", 4, 3


def values(say: Words) -> dict[str, Value]:
    cut = {kind: _pieces(builtin(kind)) for kind in KINDS}
    counts = [len(pieces) for pieces in cut.values()]
    rows = (figure(say, "pieces", PIECES, counts, names=[say(kind) for kind in KINDS]),)
    merges = explain(builtin("bpe"), QUESTION).merges
    shown: dict[str, Value] = {
        "question": QUESTION,
        "characters": len(QUESTION),
        "bytes": len(QUESTION.encode()),
        "cut": Pieces(tuple((say(kind), pieces) for kind, pieces in cut.items())),
        "entries": max(builtin(kind).vocab_size for kind in KINDS),
        "merges": sum(map(len, merges)),
        "figures": Figures(rows),
    }
    return shown | looked_up(say)


def looked_up(say: Words) -> dict[str, Value]:
    """Ids, the rows they name, and positions added to them."""
    tokenizer = builtin(KIND)
    ids = tokenizer.encode(QUESTION, special=False)
    pieces = _pieces(tokenizer)
    table = np.random.default_rng(SEED).standard_normal((tokenizer.vocab_size, DIM)).round(2)
    places = sinusoids(np.arange(len(ids)), DIM)
    one_hot = np.eye(tokenizer.vocab_size)[ids[-1]]
    dims = tuple(map(str, range(DIM)))
    return {
        "kind": say(KIND),
        "ids": Table((say("piece"), say("id")), tuple(zip(pieces, ids, strict=True))),
        "table": times(*table.shape),
        "last": pieces[-1],
        "last_id": ids[-1],
        "rows": Matrix(pieces, dims, table[ids], shaded=False),
        "product": float(np.abs(one_hot @ table - table[ids[-1]]).max()),
        "places": Matrix(pieces, dims, places, shaded=False),
        "sum": Matrix(pieces, dims, table[ids] + places, shaded=False),
    }


def real(say: Words, model: str) -> dict[str, Value]:
    """The question through the tokenizers of the models that are here."""
    names = [name for name in REAL if is_pulled(find(name))]
    tokenizers = {name: open_tokenizer(name) for name in names}
    cut = {name: _pieces(tokenizer) for name, tokenizer in tokenizers.items()}
    vocabularies = tuple(
        (name, tokenizer.kind, tokenizer.vocab_size, len(cut[name]))
        for name, tokenizer in tokenizers.items()
    )
    return {
        "real": Pieces(tuple(cut.items())),
        "vocabularies": Table((say("model"), say("kind"), say("entries"), "N"), vocabularies),
    }


def _pieces(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The question's pieces as people read them; a part of a character is named as such."""
    ids = tokenizer.encode(QUESTION, special=False)
    return tuple(label.strip() for label in labels([tokenizer.own_bytes(id) for id in ids]))


LESSON = Lesson(values=values, article=ARTICLE, needs={"real": Needs(REAL, real)})
