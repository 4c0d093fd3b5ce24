"""The way from a text to its ids as part of a trace: the tokenizer's stages, and the template's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lucidlm.errors import TokenizerError
from lucidlm.text.explain import TextExplanation, explain
from lucidlm.text.tokenizer import Tokenizer

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Tokenized:
    """`text` as it was cut. What has a place for every position of the sequence holds None where
    the token does not come from the text (a start token, what was generated).

    A chat's `text` is what the template made of `messages`.
    """

    text: str
    normalized: str = ""
    pretokens: tuple[str, ...] = ()
    merges: tuple[tuple[tuple[str, str, int], ...], ...] = ()  # left, right, rank, by pre-token
    pieces: tuple[str | None, ...] = ()
    bytes: tuple[bytes | None, ...] = ()
    ids: tuple[int | None, ...] = ()
    spans: tuple[Span | None, ...] = ()
    messages: tuple[Mapping[str, object], ...] = ()

    def to_json(self) -> dict[str, Any]:
        spelled = [None if data is None else data.hex() for data in self.bytes]
        return asdict(self) | {"bytes": spelled}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Tokenized:
        """Raises KeyError, TypeError or ValueError for anything that `to_json` would not write."""
        return cls(
            text=str(found["text"]),
            normalized=str(found["normalized"]),
            pretokens=tuple(map(str, found["pretokens"])),
            merges=tuple(
                tuple((str(left), str(right), int(rank)) for left, right, rank in merges)
                for merges in found["merges"]
            ),
            pieces=tuple(None if piece is None else str(piece) for piece in found["pieces"]),
            bytes=tuple(None if data is None else bytes.fromhex(data) for data in found["bytes"]),
            ids=tuple(None if id is None else int(id) for id in found["ids"]),
            spans=tuple(None if s is None else (int(s[0]), int(s[1])) for s in found["spans"]),
            messages=tuple(dict(message) for message in found["messages"]),
        )


def tokenized(
    tokenizer: object, text: str, ids: Sequence[int], messages: Sequence[Mapping[str, object]] = ()
) -> Tokenized:
    """How `text` became `ids`, which may have control tokens before and behind."""
    said = tuple(dict(message) for message in messages)
    plain = Tokenized(text=text, messages=said)
    if not isinstance(tokenizer, Tokenizer):
        return plain
    try:
        found = explain(tokenizer, text)
    except TokenizerError:
        return plain
    before = _place(list(ids), list(found.ids))
    if before is None:  # a message held what looks like a control token, and was cut otherwise
        return plain
    around = [None] * before, [None] * (len(ids) - before - len(found.ids))
    return Tokenized(
        text=text,
        normalized=found.normalized,
        pretokens=tuple(pretoken.spelled for pretoken in found.pretokens),
        merges=_merges(found),
        pieces=(*around[0], *(piece.text for piece in found.pieces), *around[1]),
        bytes=(*around[0], *found.bytes, *around[1]),
        ids=(*around[0], *found.ids, *around[1]),
        spans=(*around[0], *found.spans, *around[1]),
        messages=said,
    )


def _merges(found: TextExplanation) -> tuple[tuple[tuple[str, str, int], ...], ...]:
    return tuple(tuple((m.left, m.right, m.rank) for m in merges) for merges in found.merges)


def _place(whole: list[int], part: list[int]) -> int | None:
    """Where `part` begins in `whole`."""
    starts = range(len(whole) - len(part) + 1)
    return next((at for at in starts if whole[at : at + len(part)] == part), None)
