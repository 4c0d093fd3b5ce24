"""A 2017 Transformer of one layer a side, set by hand so that it translates 我爱你 word by word.

Each sub-layer has a job that can be read off its weights. The encoder's attention looks one place
back, and its feed-forward notes which word stood there. In the decoder, self-attention watches for
a full stop, cross-attention finds the source word that comes after what was said last, and the
feed-forward turns its meaning into a word, or ends when the full stop was said.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lucidlm.checkpoint.handmade import write_handmade
from lucidlm.config import Attention, Config, Embedding, FeedForward, Head, Norm, Stack
from lucidlm.lessons.kinds import Array

WORDS = ("<SOS>", "<EOS>", "我", "爱", "你", "i", " love", " you", ".")
MEANINGS = (("我", "i"), ("爱", " love"), ("你", " you"), ("<EOS>", "."))  # equal vectors
PLACES = 8  # the longest text

# the dimensions, by what they hold; encoder and decoder use some for things of their own
MEANING, START = slice(0, 4), slice(4, 5)
BEFORE = FOUND = slice(5, 9)  # the word one place back; the source word that was found
AFTER, SAY = slice(9, 13), slice(9, 14)  # the word that this one follows; the word to say
DONE = slice(14, 15)  # a full stop was said
PLACE = slice(15, 15 + PLACES)
DIM = PLACE.stop
SIZE = PLACES  # of the head, wide enough to compare places
SHARP = 12.0


def config() -> Config:
    """Post-norm, ReLU, learned positions, one head, as many outputs as words."""
    attention = Attention(heads=1, kv_heads=1, head_dim=SIZE, scale=SIZE**-0.5, bias=True)
    encoder = Stack(
        layers=1,
        attention=attention,
        feedforward=FeedForward(hidden=5, activation="relu", bias=True),
        norm=Norm(),
        norm_places=("residual",),
        mask="full",
    )
    return Config(
        dim=DIM,
        vocab_size=len(WORDS),
        max_positions=PLACES,
        embedding=Embedding(positions="learned"),
        encoder=encoder,
        decoder=replace(encoder, mask="causal", cross=attention),
        head=Head(tied=False),
    )


def weights() -> dict[str, Array]:
    """Every parameter that is not zero (of a norm's weight: one), by address."""
    words = np.zeros((len(WORDS), DIM))
    for number, pair in enumerate(MEANINGS):
        words[[WORDS.index(word) for word in pair], number] = 1
    words[WORDS.index("<SOS>"), START] = 1
    places = np.zeros((PLACES, DIM))
    places[:, PLACE] = np.eye(PLACES)
    first = places.copy()
    first[0, START] = 1  # the source's first word follows the start
    says = np.zeros((len(WORDS), DIM))
    for number, (_, word) in enumerate(MEANINGS):
        says[WORDS.index(word), SAY.start + number] = 1
    says[WORDS.index("<EOS>"), SAY.stop - 1] = 1
    return {
        "encoder.embedding.tokens.weight": words,
        "encoder.embedding.positions.weight": first,
        "decoder.embedding.positions.weight": places,
        "head.weight": says,
        **_encoder("encoder.layers.0"),
        **_decoder("decoder.layers.0"),
    }


def _encoder(at: str) -> dict[str, Array]:
    look, note = f"{at}.attention", f"{at}.feedforward"
    return {
        f"{look}.query.weight": SHARP * _reads(SIZE, PLACE, np.eye(PLACES, k=1)),  # one place back
        f"{look}.key.weight": _reads(SIZE, PLACE),
        f"{look}.value.weight": _reads(SIZE, MEANING),
        f"{look}.output.weight": _reads(SIZE, BEFORE).T,
        f"{note}.up.weight": _reads(5, BEFORE),
        f"{note}.up.bias": np.full(5, -1.0),  # only what is clear
        f"{note}.down.weight": _reads(5, AFTER).T,
    }


def _decoder(at: str) -> dict[str, Array]:
    watch, find, say = f"{at}.attention", f"{at}.cross_attention", f"{at}.feedforward"
    stop = slice(MEANING.stop - 1, MEANING.stop)
    asked = _reads(SIZE, MEANING) + _reads(SIZE, START, row=4)
    says = _reads(5, FOUND) + _reads(5, DONE, row=4)
    says[:4, DONE] = -3  # a full stop silences every word
    return {
        f"{watch}.query.bias": SHARP * np.eye(SIZE)[0],  # always the same question
        f"{watch}.key.weight": _reads(SIZE, stop),
        f"{watch}.value.weight": _reads(SIZE, stop),
        f"{watch}.output.weight": _reads(SIZE, DONE).T,
        f"{find}.query.weight": SHARP * asked,
        f"{find}.key.weight": _reads(SIZE, AFTER) + _reads(SIZE, START, row=4),
        f"{find}.value.weight": _reads(SIZE, MEANING),
        f"{find}.output.weight": _reads(SIZE, FOUND).T,
        f"{say}.up.weight": says,
        f"{say}.up.bias": np.full(5, -1.0),
        f"{say}.down.weight": 3 * _reads(5, SAY).T,
    }


def _reads(rows: int, where: slice, through: Array | None = None, row: int = 0) -> Array:
    """A matrix (rows, DIM) that copies the dimensions at `where` to the rows from `row` on."""
    matrix = np.zeros((rows, DIM))
    count = where.stop - where.start
    matrix[row : row + count, where] = np.eye(count) if through is None else through
    return matrix


def write(folder: str | Path) -> Path:
    """The model as a checkpoint folder, which `lucidlm.load` opens."""
    return write_handmade(
        Path(folder), config(), weights(), WORDS, start="<SOS>", end="<EOS>", dtype="F64"
    )
