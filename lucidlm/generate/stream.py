"""Text from tokens as they come: whole characters only, and never a piece of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Protocol

from lucidlm.text.spelling import ESCAPE, readable


class Decoder(Protocol):
    """What generation needs of a tokenizer."""

    @property
    def lead_space(self) -> bool:
        """Whether a text's first token brings a space that the text does not have."""
        ...

    def bytes_of(self, id: int) -> bytes:
        """The bytes that a token stands for; of a control token, those of its name."""
        ...

    def is_special(self, id: int) -> bool:
        """Whether this is a control token, which is no part of the text."""
        ...


def split_characters(data: bytes, *, final: bool) -> tuple[str, bytes]:
    """(text, rest): `rest` is a character that `data` ends in the middle of, empty when `final`.
    Invalid bytes are escaped.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors=ESCAPE)
    text = decoder.decode(data, final)
    return text, decoder.getstate()[0]


class TextStream:
    """Takes tokens' bytes and gives out text as soon as it is certain; bytes of a possible stop
    string wait.

    Whatever the cuts between tokens, the text is the same: it ends before the stop string that is
    complete first. `drop_space` leaves out one space that it would begin with.
    """

    def __init__(self, stop: Iterable[str] = (), *, drop_space: bool = False) -> None:
        self.drop_space = drop_space
        self.stop = [s.encode("utf-8") for s in stop]
        self.stopped = False  # a stop string has come; everything from it on is dropped
        self._pending = b""

    def push(self, data: bytes) -> str:
        """Add a token's bytes; returns the text that is now certain."""
        if self.stopped:
            return ""
        if self.drop_space and data:
            data, self.drop_space = data.removeprefix(b" "), False
        self._pending += data
        found = [(self._pending.find(s) + len(s), len(s)) for s in self.stop if s in self._pending]
        if found:
            self.stopped = True
            end, length = min(found, key=lambda f: (f[0], -f[1]))
            self._pending = self._pending[: end - length]
            return self.flush()
        held = self._possible_stop()
        sure = len(self._pending) - held
        text, rest = split_characters(self._pending[:sure], final=held > 0)
        self._pending = rest + self._pending[sure:]
        return text

    def flush(self) -> str:
        """The text still held back; nothing follows."""
        text, self._pending = readable(self._pending), b""
        return text

    def _possible_stop(self) -> int:
        """Bytes at the end that may be the beginning of a stop string."""
        longest = min(max(map(len, self.stop), default=0) - 1, len(self._pending))
        for size in range(longest, 0, -1):
            if any(s.startswith(self._pending[-size:]) for s in self.stop):
                return size
        return 0


def text_of(ids: Iterable[int], decoder: Decoder, stop: Iterable[str], *, fresh: bool) -> str:
    """The text of generated `ids`, up to a stop string, without control tokens.

    `fresh` says that it begins a text and does not go on from one.
    """
    stream = TextStream(stop, drop_space=fresh and decoder.lead_space)
    said = (decoder.bytes_of(id) for id in ids if not decoder.is_special(id))
    return "".join(map(stream.push, said)) + stream.flush()
