"""The logit lens (nostalgebraist 2020): what the model would say if it stopped after each sublayer.

The residual stream behind a sublayer goes through the model's own final norm and head, as if no
other layer followed. The last row is the model's own answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lucidlm.errors import TraceError
from lucidlm.generate.sampling import largest
from lucidlm.trace import predictions
from lucidlm.trace.operations import Array
from lucidlm.trace.run import Run
from lucidlm.trace.stacks import output_stack

Place = Literal["attention", "cross_attention", "feedforward"]
PLACES: dict[str, Place] = {
    "residual_mid": "attention",
    "residual_cross": "cross_attention",
    "residual_out": "feedforward",
}


@dataclass(frozen=True)
class Candidate:
    """A word and its probability, over the whole vocabulary."""

    id: int
    label: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the lens shows at one place and position: the likeliest words, and where the word that
    is asked about stands among all (`rank` 1 is the likeliest; on a tie the lower id is before).
    `entropy` is in bits.
    """

    top: tuple[Candidate, ...]
    rank: int
    probability: float
    entropy: float


@dataclass(frozen=True, kw_only=True)
class LensRow:
    """One place: behind attention, cross-attention or the feed-forward of a layer."""

    layer: int
    place: Place
    address: str  # of the residual stream that was read
    readings: tuple[Reading, ...]  # by position


@dataclass(frozen=True, kw_only=True)
class Lens:
    """The logit lens at some positions of a run, rows in order of computation."""

    positions: tuple[int, ...]
    words: tuple[Candidate, ...]  # asked about at each; with the model's own probability
    rows: tuple[LensRow, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def lens(
    run: Run,
    word: str | int | None = None,
    positions: Sequence[int] | None = None,
    top: int = 5,
) -> Lens:
    """The logit lens at `positions`: by default where the chosen tokens were predicted, or the last
    position.

    `word` (a token's text or id) is the one whose rank is followed; without it, at each position
    the token that came next, or where none did the likeliest. Edits of the run are in the stream
    that is read; those on the final norm and on the head are not applied again.

    Raises TraceError for a trace without its model, and for a model without layers or logits.
    """
    predictions.check(run)
    if run.engine is None:
        raise TraceError("trace.no_model", address="head.logits", name=run.name)
    if positions is None:
        positions = predictions.default_positions(run)
    positions = tuple(predictions.check_position(run, position) for position in positions)
    words = predictions.words_at(run, word, positions)
    addresses = lens_sites(run)
    logits = lens_logits(run, addresses, positions)
    rows = tuple(
        LensRow(
            layer=_layer(address),
            place=PLACES[address.rpartition(".")[2]],
            address=address,
            readings=tuple(_reading(run, next(logits), word, top) for word in words),
        )
        for address in addresses
    )
    asked = tuple(
        Candidate(id, run.label(id), reading.probability)
        for id, reading in zip(words, rows[-1].readings, strict=True)
    )
    return Lens(positions=positions, words=asked, rows=rows)


def lens_sites(run: Run) -> tuple[str, ...]:
    """The residual stream behind every sublayer of the stack that ends in the head."""
    assert run.config is not None
    start = f"{output_stack(run.config)}layers."
    return tuple(
        address
        for address in run.catalogue
        if address.startswith(start) and address.rpartition(".")[2] in PLACES
    )


def lens_logits(run: Run, addresses: Sequence[str], positions: Sequence[int]) -> Iterator[Array]:
    """The model's final norm and head on the residual stream: (vocab,) of each position at the
    first of `addresses`, then at the next. Many go through the head at once, for its matrix is
    large to read.
    """
    assert run.config is not None
    vectors = np.concatenate([run.read(address)[list(positions)] for address in addresses])
    final = f"{output_stack(run.config)}final_norm"
    if f"{final}.output" in run.catalogue:
        vectors = predictions.through(run, final, "output", vectors)
    count = max(1, predictions.VALUES // run.config.vocab_size)
    for start in range(0, len(vectors), count):
        yield from predictions.head(run, vectors[start : start + count])


def _layer(address: str) -> int:
    return int(address.split("layers.")[1].split(".")[0])


def _reading(run: Run, logits: Array, word: int, top: int) -> Reading:
    logs = predictions.log_softmax(logits)
    own = logits[word]
    before = int((logits > own).sum()) + int((logits[:word] == own).sum())
    likeliest = [int(id) for id in largest(logits, top)]
    return Reading(
        top=tuple(Candidate(id, run.label(id), float(np.exp(logs[id]))) for id in likeliest),
        rank=before + 1,
        probability=float(np.exp(logs[word])),
        entropy=float(predictions.entropy(logs)),
    )
