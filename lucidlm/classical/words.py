"""The plainest tokenizer: a list of words, a text cut at its spaces or into its characters."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, Self

from lucidlm.errors import TokenizerError, UnknownName

Split = Literal["word", "character"]
UNKNOWN, END = "<unk>", "</s>"


@dataclass(frozen=True)
class Words:
    """A vocabulary: `words[id]` is the word, all different.

    `dropped` characters are read as spaces. `unknown` is the id that every other word is given
    (None: refuse them), `end` the id that closes a line of text (None: nothing does).
    """

    words: tuple[str, ...]
    split: Split = "word"
    dropped: str = ""
    unknown: int | None = None
    end: int | None = None

    @classmethod
    def learn(
        cls, text: str, split: Split = "word", dropped: str = "", max_words: int | None = None
    ) -> Self:
        """<unk>, </s> and the words of `text`, most frequent first; at most `max_words` of them."""
        counted = Counter(w for line in text.split("\n") for w in _cut(line, split, dropped))
        for special in (UNKNOWN, END):
            counted.pop(special, None)
        kept = [word for word, _ in counted.most_common(max_words)]
        return cls((UNKNOWN, END, *kept), split, dropped, unknown=0, end=1)

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """The ids of a text's words. Raises UnknownName for a word that has none."""
        return [self._id(word) for word in _cut(text, self.split, self.dropped)]

    def encode_lines(self, text: str) -> list[list[int]]:
        """One sequence for each line that is not blank, closed by `end` where there is one."""
        close = [] if self.end is None else [self.end]
        return [ids + close for line in text.split("\n") if (ids := self.encode(line))]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids: words with spaces between, or characters."""
        text = b"".join(map(self.bytes_of, ids)).decode("utf-8")
        return text.removeprefix(" ") if self.split == "word" else text

    @property
    def lead_space(self) -> bool:
        """Whether a text's first word brings a space that the text does not have."""
        return self.split == "word"

    def is_special(self, id: int) -> bool:
        """Whether this is `end`, which is no part of the text."""
        return id == self.end

    def bytes_of(self, id: int) -> bytes:
        """What a word adds to a text, in UTF-8: space and word, or a character; `end` nothing."""
        if id == self.end:
            return b""
        return (" " * (self.split == "word") + self.words[id]).encode("utf-8")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The inverse of `to_json`. Raises TokenizerError for anything else."""
        try:
            fields = ("split", "dropped", "unknown", "end")
            made = cls(tuple(data["words"]), *(data[field] for field in fields))
            valid = made._valid()
        except (TypeError, KeyError, UnicodeEncodeError):
            valid = False
        if not valid:
            raise TokenizerError("classical.bad_words")
        return made

    def _valid(self) -> bool:
        count = len(self.words)
        "".join((*self.words, self.dropped)).encode("utf-8")  # half a surrogate pair is no text
        ids = [id for id in (self.unknown, self.end) if id is not None]
        return (
            all(self.words)
            and 0 < count == len(set(self.words))
            and self.split in ("word", "character")
            and all(type(id) is int and 0 <= id < count for id in ids)
        )

    @cached_property
    def _ids(self) -> dict[str, int]:
        special = (self.unknown, self.end)
        return {word: id for id, word in enumerate(self.words) if id not in special}

    def _id(self, word: str) -> int:
        id = self._ids.get(word, self.unknown)
        if id is None:
            raise UnknownName("classical.unknown_word", word, spelled_like(word, self.words))
        return id


def spelled_like(word: str, known: Sequence[str], count: int = 50) -> list[str]:
    """The `count` known words that share most pairs of neighbouring characters with `word`.

    A coarse sieve for `UnknownName`, whose own comparison is too slow for a large vocabulary.
    """
    pairs = _pairs(word)
    close = [w for w in known if abs(len(w) - len(word)) <= 2]
    return heapq.nlargest(count, close, key=lambda w: len(pairs & _pairs(w)) / (len(w) + len(word)))


def _pairs(word: str) -> set[str]:
    padded = f" {word} "
    return {padded[i : i + 2] for i in range(len(padded) - 1)}


def _cut(text: str, split: Split, dropped: str) -> list[str]:
    if dropped:
        text = text.translate({ord(character): " " for character in dropped})
    return text.split() if split == "word" else [c for c in text if c != "\n"]
