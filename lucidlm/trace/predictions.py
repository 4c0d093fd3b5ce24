"""What a run predicted and where: the logits of chosen positions, and the word that is asked about.

Logits at position p are for the token at p + 1; those of an encoder are for the token at p itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lucidlm.engine import ForwardContext
from lucidlm.errors import TraceError
from lucidlm.trace.arrange import to_array
from lucidlm.trace.operations import Array, Doubles
from lucidlm.trace.run import Run
from lucidlm.trace.stacks import last_vector, output_stack

VALUES = 1 << 22  # of logits in memory at a time


def check(run: Run) -> None:
    """Raises TraceError for a model without layers, or without logits."""
    if run.config is None:
        raise TraceError("lens.no_layers", name=run.name)
    if run.config.head is None:
        raise TraceError("lens.no_head", name=run.name)


def predicts(run: Run, position: int) -> int:
    """The position of the token that the logits at `position` are for."""
    is_encoder = run.config is not None and run.config.kind == "encoder"
    return position if is_encoder else position + 1


def default_positions(run: Run) -> tuple[int, ...]:
    """Where the chosen tokens were predicted; the last position that was read if none were."""
    return tuple(position - 1 for position in run.chosen) or (run.length - 1,)


def check_position(run: Run, position: int) -> int:
    """`position`, counted from the end if it is negative. Raises TraceError outside the run."""
    found = position + run.length if position < 0 else position
    if not 0 <= found < run.length:
        raise TraceError("lens.no_position", position=position, last=run.length - 1)
    return found


def token_id(run: Run, word: str | int, vocab_size: int) -> int:
    """The id of a word of the vocabulary, given as its id or its text.

    Of tokens that read alike, the one that stands in the run comes first, then the one with a space
    before it. Raises TraceError where there is none.
    """
    if not isinstance(word, str):
        if not 0 <= word < vocab_size:
            raise TraceError("lens.no_id", id=word, last=vocab_size - 1)
        return int(word)
    here = [token.id for token in run.tokens if token.bytes in _spellings(word)]
    if here:
        return here[-1]
    if run.decoder is not None:
        for spelled in _spellings(word):
            for id in range(vocab_size):
                if run.decoder.bytes_of(id) == spelled:
                    return id
    raise TraceError("lens.no_word", word=word)


def _spellings(word: str) -> tuple[bytes, ...]:
    spaced = () if word.startswith(" ") else (f" {word}".encode(),)
    return (*spaced, word.encode())


def words_at(run: Run, word: str | int | None, positions: Sequence[int]) -> tuple[int, ...]:
    """The id asked about at each position: `word`, or without one the token that stands at the
    predicted place; where none stands there, and of an encoder, the likeliest.
    """
    check(run)
    assert run.config is not None
    if word is not None:
        return (token_id(run, word, run.config.vocab_size),) * len(positions)
    places = [predicts(run, position) for position in positions]
    next_ids = [
        run.ids[place] if place < len(run.ids) and place != position else None
        for place, position in zip(places, positions, strict=True)
    ]
    open_ones = [at for at, id in enumerate(next_ids) if id is None]
    rows = logits(run, [positions[at] for at in open_ones])
    likeliest = {at: int(row.argmax()) for at, row in zip(open_ones, rows, strict=True)}
    return tuple(likeliest[at] if id is None else id for at, id in enumerate(next_ids))


def logits(run: Run, positions: Sequence[int]) -> Iterator[Array]:
    """(vocab,) of each position as recorded, or where it was not kept computed again, a few
    positions at a time.
    """
    check(run)
    assert run.config is not None
    chosen = {position - 1 for position in run.chosen}
    edited = any(edit.site.part == "head" for edit in run.edits)
    if run.is_seen("head.logits") or (edited and set(positions) - chosen):
        yield from (run.read("head.logits")[position] for position in positions)
        return
    count = max(1, VALUES // run.config.vocab_size)
    for start in range(0, len(positions), count):
        some = positions[start : start + count]
        again = [position for position in some if position not in chosen]
        rows = iter(_computed(run, again))
        for position in some:
            yield run.backing.logits(position) if position in chosen else next(rows)


def _computed(run: Run, positions: Sequence[int]) -> Array:
    """The head again on these positions, (positions, vocab)."""
    if not positions:
        return np.zeros((0, 0))
    assert run.config is not None
    last = last_vector(run.config, output_stack(run.config))
    return head(run, run.read(last)[list(positions)])


def head(run: Run, vectors: Array) -> Array:
    """The model's own head on last vectors (n, dim) -> (n, vocab)."""
    return through(run, "head", "logits", vectors)


def through(run: Run, part: str, noun: str, vectors: Array) -> Array:
    """A part of the model on vectors (n, dim): its site `noun`, (n, ...), in the engine's own
    precision.
    """
    if run.engine is None:
        raise TraceError("trace.no_model", address=f"{part}.{noun}", name=run.name)
    seen: dict[str, Any] = {}

    def keep(path: str, name: str, value: Any) -> Any:
        seen[f"{path}.{name}"] = value
        return value

    run.engine.replay(part, np.array(vectors)[None], ForwardContext(tracer=keep))
    found: Array = to_array(seen[f"{part}.{noun}"])[0]
    return found


def log_softmax(logits: Array) -> Doubles:
    """Natural logarithms of the probabilities over the last axis, in float64."""
    wide = np.asarray(logits, np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    result: Doubles = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def entropy(log_probabilities: Doubles) -> Doubles:
    """- sum p log2 p over the last axis, in bits; what is impossible adds nothing."""
    shares = np.exp(log_probabilities)
    finite = np.where(shares > 0, log_probabilities, 0.0)
    bits: Doubles = -(shares * finite).sum(-1) / np.log(2)
    return bits
