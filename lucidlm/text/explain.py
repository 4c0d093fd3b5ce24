"""From a text to its token ids, stage by stage, with nothing left out.

    text -> special tokens found -> normalized -> pretokens -> (merges | longest match | lattice) ->
      pieces -> bytes -> ids

Finding special tokens, normalising and pre-splitting are the `tokenizers` library's own work,
watched through a tokenizer whose model knows nothing and so returns what it was given. The cutting
into pieces is done again in `lucidlm.text.steps`, and must end in exactly the ids that the library
gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from lucidlm.errors import TokenizerError
from lucidlm.text.library import guarded, state
from lucidlm.text.spelling import labels
from lucidlm.text.steps import ALGORITHMS, Lookup, Merge, Merges, Steps
from lucidlm.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

Span = tuple[int, int]


@dataclass(frozen=True)
class Change:
    """Normalising turned characters `start` to `end` of the text, `before`, into `after`."""

    before: str
    after: str
    start: int
    end: int


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
    cut = _algorithm(tokenizer)
    normalized, changes = _normalized(tokenizer, text)
    pretokens = []
    for spelled, (start, end), added in _watch(tokenizer.backend, text, whole=True):
        steps = Lookup((added,)) if added is not None else cut(spelled)
        pretokens.append(Pretoken(spelled, text[start:end], start, end, added is not None, steps))
    found = [tokenizer.known(id) for pretoken in pretokens for id in pretoken.steps.ids]
    if found != ids:
        raise TokenizerError("text.cannot_explain", kind=tokenizer.kind)
    return TextExplanation(
        text, normalized, changes, tuple(pretokens), _pieces(tokenizer, text, ids)
    )


def _pieces(tokenizer: Tokenizer, text: str, ids: list[int]) -> tuple[Piece, ...]:
    data = [tokenizer.own_bytes(id) for id in ids]
    spans = _spans(tokenizer.backend, text)
    assert len(spans) == len(ids)
    rows = zip(ids, data, spans, labels(data), strict=True)
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


def _normalized(tokenizer: Tokenizer, text: str) -> tuple[str, tuple[Change, ...]]:
    """The normalised text, and where it differs from the original."""
    changes: list[Change] = []
    characters = list(_watch(tokenizer.backend, text, whole=False))
    done = 0  # characters of the original accounted for
    group: list[str] = []
    group_span: Span = (0, 0)

    def close() -> None:
        start, end = group_span
        after = "".join(group)
        if text[start:end] == after:
            return
        if changes and changes[-1].end == start and start < end:
            last = changes.pop()
            changes.append(
                Change(last.before + text[start:end], last.after + after, last.start, end)
            )
        else:
            changes.append(Change(text[start:end], after, start, end))

    for character, (start, end), added in characters:
        if added is not None:
            character = text[start:end]
        if group and start < group_span[1]:  # one original character became several
            group.append(character)
            group_span = (group_span[0], max(end, group_span[1]))
            continue
        close()
        if start > done:
            group, group_span = [], (done, start)
            close()
        group, group_span = [character], (start, end)
        done = max(done, end)
    close()
    if done < len(text):
        group, group_span = [], (done, len(text))
        close()
    return "".join(text[s:e] if added is not None else c for c, (s, e), added in characters), tuple(
        changes
    )


def _watch(
    backend: tokenizers.Tokenizer, text: str, *, whole: bool
) -> list[tuple[str, Span, int | None]]:
    """(spelling, span in the original, id of an added token) of each pre-token, or of each
    normalised character."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    with guarded("text.cannot_encode"):
        blank = Tokenizer(
            models.Unigram([(_NEVER, 0.0)], 0)
        )  # everything is unknown, and unknown text comes back as it is
        blank.normalizer = backend.normalizer
        blank.pre_tokenizer = (
            backend.pre_tokenizer if whole else pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        )
        ids = _share_added(backend, blank)
        encoding = blank.encode(text)
    rows = zip(encoding.tokens, encoding.offsets, encoding.ids, strict=True)
    return [(spelled, span, ids.get(id)) for spelled, span, id in rows]


_NEVER = "\ufdd0 never \ufdd1"  # noncharacters around spaces


def _spans(backend: tokenizers.Tokenizer, text: str) -> list[Span]:
    """The characters each token covers, spaces included (a post-processor may trim them)."""
    from tokenizers import Tokenizer

    with guarded("text.cannot_encode"):
        bare = Tokenizer(backend.model)
        bare.normalizer, bare.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
        _share_added(backend, bare)
        return list(bare.encode(text).offsets)


def _share_added(source: tokenizers.Tokenizer, target: tokenizers.Tokenizer) -> dict[int, int]:
    """Give `target` the added tokens of `source`; returns source's id by target's."""
    added = source.get_added_tokens_decoder()
    for _, token in sorted(added.items()):
        target.add_special_tokens([token]) if token.special else target.add_tokens([token])
    by_content = {token.content: id for id, token in added.items()}
    return {
        id: by_content[token.content] for id, token in target.get_added_tokens_decoder().items()
    }
