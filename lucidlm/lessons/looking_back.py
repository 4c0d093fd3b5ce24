"""A decoder of one layer, set by hand: its last word looks at the word a fixed distance back, and
what it finds there decides the next word.

A vector has three parts: one number for each word (which word this is), one for each position
(where it stands), and one for each word again (which word attention found).
"""

from __future__ import annotations

import math

import numpy as np

from lucidlm.api import Model
from lucidlm.classical.words import Words
from lucidlm.config import Attention, Config, Embedding, FeedForward, Head, Norm, Stack
from lucidlm.lessons.kinds import Array
from lucidlm.reference.engine import Reference

SHARP = 20.0  # the score of the word that is looked for; all others score 0


def model(vocabulary: Words, table: Array, back: int, positions: int) -> Model:
    """The model whose logits for the next word are `table[word found]`, (words, words), where the
    word found stands `back` positions before the last one. It reads up to `positions` words.
    """
    words = len(table)
    head = max(words, positions)  # query and key hold positions, values hold words
    dim = 2 * words + positions
    word, place, found = np.split(np.eye(dim), [words, words + positions])
    query, key, value = (np.zeros((head, dim)) for _ in range(3))
    for at in range(back, positions):
        query[at - back] += SHARP * math.sqrt(head) * place[at]
    key[:positions] = place
    value[:words] = word
    output = np.zeros((dim, head))
    output[:, :words] = found.T
    config = Config(
        dim=dim,
        vocab_size=words,
        max_positions=positions,
        embedding=Embedding(positions="learned"),
        decoder=Stack(
            layers=1,
            attention=Attention(heads=1, kv_heads=1, head_dim=head, scale=1 / math.sqrt(head)),
            feedforward=FeedForward(hidden=1, activation="relu"),
            norm=Norm(),
            norm_places=(),
            mask="causal",
        ),
        head=Head(tied=False),
    )
    weights = {
        "embedding.tokens.weight": word,
        "embedding.positions.weight": place,
        "layers.0.attention.query.weight": query,
        "layers.0.attention.key.weight": key,
        "layers.0.attention.value.weight": value,
        "layers.0.attention.output.weight": output,
        "layers.0.feedforward.up.weight": np.zeros((1, dim)),  # learned nothing: adds nothing
        "layers.0.feedforward.down.weight": np.zeros((dim, 1)),
        "head.weight": table.T @ found,
    }
    engine = Reference(config, weights.items())
    return Model(name="looking-back", engine=engine, tokenizer=vocabulary, config=config)
