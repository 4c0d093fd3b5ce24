"""From a text to its token ids, stage by stage, with nothing left out.

    text -> special tokens found -> normalized -> pretokens
         -> merges, or longest match, or lattice -> pieces -> bytes -> ids

What comes before the model is watched in the `tokenizers` library (`lucidlm.text.watch`). The
cutting into pieces is done again in `lucidlm.text.steps`, and must end in exactly the ids that the
library gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from lucidlm.errors import TokenizerError
from lucidlm.text import watch
from lucidlm.text.backend import guarded, state
from lucidlm.text.spelling import labels
from lucidlm.text.steps import ALGORITHMS, Lattice, Lookup, Merge, Merges, Steps
from lucidlm.text.tokenizer import Tokenizer
from lucidlm.text.watch import Change, Span


@dataclass(frozen=True)
class Pretoken:
    """A stretch that is cut on its own. `spelled` is what the model sees, `text` the original's
    characters it comes from."""

    spelled: str
    text: str
    start: int
    end: int
    special: bool  # an added token, recognised before anything else
    steps: Steps


@dataclass(frozen=True)
class Piece:
    """One token: `text` as the vocabulary spells it, the bytes it stands for, and the characters of
    the original it covers.

    `label` is for reading: a third of 好 is `好 1/3 (E5)`.
    """

    id: int
    text: str
    bytes: bytes
    start: int
    end: int
    label: str


@dataclass(frozen=True)
class TextExplanation:
    """All stages of one text; special tokens that the model expects around it are not part of
    it."""

    text: str
    normalized: str
    changes: tuple[Change, ...]
    pretokens: tuple[Pretoken, ...]
    pieces: tuple[Piece, ...]

    @cached_property
    def merges(self) -> tuple[tuple[Merge, ...], ...]:
        """The merges that fired in each pre-token; empty for other kinds than BPE."""
        steps = (pretoken.steps for pretoken in self.pretokens)
        return tuple(step.merges if isinstance(step, Merges) else () for step in steps)

    @property
    def bytes(self) -> tuple[bytes, ...]:
        return tuple(piece.bytes for piece in self.pieces)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(piece.id for piece in self.pieces)

    @property
    def spans(self) -> tuple[Span, ...]:
        return tuple((piece.start, piece.end) for piece in self.pieces)


def explain(tokenizer: Tokenizer, text: str) -> TextExplanation:
    """Every stage from `text` to its ids.

    Special tokens written in the text count as such, as in `tokenizer.encode`. Raises
    TokenizerError for a text that cannot be encoded.
    """
    ids = tokenizer.encode(text, special=False)
    spelled, changes = watch.normalized(tokenizer, text)
    try:
        pretokens = tuple(_pretokens(tokenizer, text))
    except KeyError:  # a damaged vocabulary, in which two entries share an id
        raise TokenizerError("text.cannot_explain", kind=tokenizer.kind) from None
    if [id for pretoken in pretokens for id in pretoken.steps.ids] != ids:
        raise TokenizerError("text.cannot_explain", kind=tokenizer.kind)
    return TextExplanation(text, spelled, changes, pretokens, _pieces(tokenizer, text, ids))


def _pretokens(tokenizer: Tokenizer, text: str) -> Iterator[Pretoken]:
    cut = _algorithm(tokenizer)
    for stretch in watch.pretokens(tokenizer, text):
        start, end = stretch.span
        added = stretch.added is not None
        steps = cut(stretch.spelled) if stretch.added is None else Lookup((stretch.added,))
        yield Pretoken(
            stretch.spelled, text[start:end], start, end, added, _looked_up(tokenizer, steps)
        )


def _looked_up(tokenizer: Tokenizer, steps: Steps) -> Steps:
    """The steps with the model's ids, where those are not the vocabulary's own (Marian)."""
    if tokenizer.names is None:
        return steps
    own = (tokenizer.backend.id_to_token(id) or "" for id in steps.ids)
    tokens = steps.tokens if isinstance(steps, Lattice) else own
    return replace(steps, ids=tuple(map(tokenizer.look_up, tokens)))


def _pieces(tokenizer: Tokenizer, text: str, ids: list[int]) -> tuple[Piece, ...]:
    data = [tokenizer.own_bytes(id) for id in ids]
    rows = zip(ids, data, watch.spans(tokenizer, text), labels(data), strict=True)
    return tuple(
        Piece(id, tokenizer.piece(id), own, start, end, label)
        for id, own, (start, end), label in rows
    )


@lru_cache(maxsize=4)  # reading a large vocabulary takes a second
def _algorithm(tokenizer: Tokenizer) -> Callable[[str], Steps]:
    """The model's algorithm with its vocabulary."""
    with guarded("text.cannot_explain", kind=tokenizer.kind):
        algorithm = ALGORITHMS[type(tokenizer.backend.model).__name__]
        return algorithm(state(tokenizer.backend.model))
