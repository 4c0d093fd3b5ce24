"""One row of data: a text, a pair, or a chat; and what makes two of them the same."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
Complaint = tuple[str, dict[str, object]]  # a text's key, and what fills it


@dataclass(frozen=True)
class TextRow:
    """A text, read as it stands."""

    text: str

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text,)


@dataclass(frozen=True)
class PairRow:
    """A source and its target: a sentence and its translation."""

    source: str
    target: str

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.source, self.target)


@dataclass(frozen=True)
class ChatRow:
    """A conversation: messages with `role` and `content`."""

    messages: tuple[Mapping[str, str], ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(message["content"] for message in self.messages)


Row = TextRow | PairRow | ChatRow


def row_of(fields: Mapping[str, Any], text: str) -> Row | Complaint:
    """The row that an object's or a table's fields are, or what is wrong with them. `text` names
    the field of a text.
    """
    if fields.get("messages") is not None:
        return _chat(fields["messages"])
    if fields.get("source") is not None or fields.get("target") is not None:
        return pair(fields.get("source"), fields.get("target"))
    if text not in fields:
        return "dataset.unknown_row", {"found": ", ".join(map(str, fields)) or "-", "text": text}
    if not isinstance(fields[text], str) or not fields[text].strip():
        return "dataset.empty_text", {"key": text}
    return TextRow(fields[text])


def pair(source: object, target: object) -> PairRow | Complaint:
    """A pair, both sides of which must say something."""
    for name, side in (("source", source), ("target", target)):
        if not isinstance(side, str) or not side.strip():
            return "dataset.half_pair", {"side": name}
    assert isinstance(source, str) and isinstance(target, str)
    return PairRow(source, target)


def _chat(messages: object) -> ChatRow | Complaint:
    if not isinstance(messages, list | tuple) or not messages:
        return "dataset.bad_messages", {}
    found = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            return "dataset.bad_message", {"number": number}
        if message.get("role") not in ROLES:
            return "dataset.bad_role", {"role": message.get("role"), "known": ", ".join(ROLES)}
        found.append({"role": str(message["role"]), "content": str(message["content"])})
    return ChatRow(tuple(found))


def digest(text: str) -> int:
    """64 bits that two texts share if they differ in case, width and white space only."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest())


def digests(row: Row) -> Iterator[int]:
    """The whole row's digest, then of a pair those of its sides."""
    yield digest("\0".join(row.texts))
    if isinstance(row, PairRow):
        yield from map(digest, row.texts)
