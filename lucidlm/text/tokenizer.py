"""Text to token ids and back. All encoding is done by the `tokenizers` library; bytes, decoding and
special tokens are ours.

Decoding is exact in bytes: `decode(ids)` is the concatenation of `bytes_of(id)` as UTF-8, without
special tokens, and without one leading space where the tokenizer is of a kind that puts a space
before every text (`lead_space`: SentencePiece with a dummy prefix, WordPiece). Bytes that are no
text come out as `\\xE5`, never as a replacement character.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from lucidlm.errors import TokenizerError
from lucidlm.text.backend import guarded, state
from lucidlm.text.spelling import Spelling, readable, spelling_of

if TYPE_CHECKING:
    import tokenizers

Kind = Literal["bpe", "wordpiece", "unigram", "char", "word"]


@dataclass(frozen=True, kw_only=True)
class Specials:
    """Ids with a meaning of their own; None or () where the tokenizer has none. Any of `eos` ends a
    generation."""

    bos: int | None = None
    eos: tuple[int, ...] = ()
    unk: int | None = None
    pad: int | None = None
    mask: int | None = None
    cls: int | None = None
    sep: int | None = None

    @property
    def ids(self) -> frozenset[int]:
        single = (self.bos, self.unk, self.pad, self.mask, self.cls, self.sep)
        return frozenset(id for id in (*self.eos, *single) if id is not None)


@dataclass(frozen=True)
class Pair:
    """Two texts as one input of BERT: `segments` is 0 for the first with its special tokens, 1 for
    the second."""

    ids: list[int]
    segments: list[int]


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A vocabulary at work, as `text.folder.load_tokenizer`, `text.cache.tokenizer_from_gguf` and
    `text.train.train_tokenizer` make it.

    `names` are the pieces by id where the backend has other ids (Marian); `files` is what is saved
    then, byte for byte; `size` is `vocab_size` where whoever built it knows.
    """

    backend: tokenizers.Tokenizer
    specials: Specials = field(default_factory=Specials)
    chat_template: str | None = None
    names: Sequence[str] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    size: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def vocab_size(self) -> int:
        """How many tokens there are: the highest id + 1."""
        if self.names is not None:
            return len(self.names)
        return self.size or max(self.backend.get_vocab().values(), default=-1) + 1

    @cached_property
    def kind(self) -> Kind:
        """The algorithm that cuts words into pieces."""
        name = type(self.backend.model).__name__
        if name == "WordLevel":
            split = state(self.backend.pre_tokenizer).get("behavior")
            return "char" if split == "Isolated" else "word"
        kinds: dict[str, Kind] = {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram"}
        return kinds[name]

    def encode(self, text: str, *, special: bool = True, allow_special: bool = True) -> list[int]:
        """Token ids of `text`.

        `special` adds what the model expects around a text (BOS; [CLS] and [SEP]). `allow_special`
        reads special tokens written in the text, such as <|im_start|>, as those tokens, as Hugging
        Face does; without it they are plain characters, so that nobody's words become control
        tokens.
        """
        if allow_special or self._controls.isdisjoint(self._ids(text, False, False)):
            return self._ids(text, special, allow_special)
        around = self._ids("", special, True)
        before = 1 if around and around[0] in (self.specials.bos, self.specials.cls) else 0
        inside = [id for part in self._apart(text) for id in self._ids(part, False, False)]
        return [*around[:before], *inside, *around[before:]]

    def encode_pair(self, first: str, second: str) -> Pair:
        """Two texts in one input, with the special tokens that the model expects (BERT)."""
        with guarded("text.cannot_encode"):
            encoding = self.backend.encode(_whole(first), _whole(second))
        return Pair(list(encoding.ids), list(encoding.type_ids))

    def decode(
        self, ids: Iterable[int], *, skip_special: bool = True, continued: bool = False
    ) -> str:
        """The text of `ids`; `continued` keeps a first space, for tokens that go on from earlier
        text."""
        shown = (id for id in ids if not (skip_special and self.is_special(id)))
        data = b"".join(map(self.bytes_of, shown))
        if self.lead_space and not continued:
            data = data.removeprefix(b" ")
        return readable(data)

    def bytes_of(self, id: int) -> bytes:
        """Exactly the bytes that a token adds to a text; for a special token those of its name."""
        piece = self.piece(id)
        return piece.encode() if self.is_special(id) else self._spelling.bytes_of(piece)

    def own_bytes(self, id: int) -> bytes:
        """The same, less the space that WordPiece puts before a word only in decoding."""
        piece = self.piece(id)
        return piece.encode() if self.is_special(id) else self._spelling.own(piece)

    def piece(self, id: int) -> str:
        """The vocabulary's own spelling of a token: `Ġhello`, `▁hello`, `##ing`, `<0xE5>`."""
        if self.names is not None:
            piece = self.names[id] if 0 <= id < len(self.names) else None
        else:
            piece = self.backend.id_to_token(id) if 0 <= id < 1 << 32 else None
        if piece is None:
            raise TokenizerError("text.no_such_id", id=id, size=self.vocab_size)
        return piece

    def is_special(self, id: int) -> bool:
        """Whether this is a control token, which is no part of the text."""
        return id in self.special_ids

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Every control token's id."""
        added = self.backend.get_added_tokens_decoder().items()
        if self.names is not None:
            return self.specials.ids | {self.look_up(token.content) for _, token in added}
        return self.specials.ids | {id for id, token in added if token.special}

    @property
    def lead_space(self) -> bool:
        """Whether a text's first token brings a space that the text did not have."""
        return self._spelling.lead_space

    def look_up(self, token: str) -> int:
        """The id in `names` of what the backend cut out."""
        assert self.specials.unk is not None
        return self._by_name.get(token, self.specials.unk)

    def check(self, vocab_size: int) -> None:
        """Raise unless every id has a row in a model's table of `vocab_size` rows."""
        if self.vocab_size > vocab_size:
            raise TokenizerError("text.beyond_table", tokens=self.vocab_size, rows=vocab_size)

    @cached_property
    def _spelling(self) -> Spelling:
        return spelling_of(self.backend)

    def _ids(self, text: str, special: bool, allow_special: bool) -> list[int]:
        with guarded("text.cannot_encode"), self._lock:
            self.backend.encode_special_tokens = not allow_special
            encoding = self.backend.encode(_whole(text), add_special_tokens=special)
        if self.names is not None:
            return [self.look_up(token) for token in encoding.tokens]
        return list(encoding.ids)

    @cached_property
    def _by_name(self) -> dict[str, int]:
        return {name: id for id, name in enumerate(self.names or ())}

    @cached_property
    def _controls(self) -> frozenset[int]:
        return self.special_ids - {self.specials.unk}

    def _apart(self, text: str) -> list[str]:
        """`text` with every special token's name cut in two: Unigram has those names as entries and
        would match them."""
        names = sorted((self.piece(id) for id in self._controls), key=len, reverse=True)
        pattern = "|".join(re.escape(name) for name in names if len(name) > 1)
        parts, start = [], 0
        for match in re.finditer(pattern, text):
            parts.append(text[start : match.start() + 1])
            start = match.start() + 1
        return [*parts, text[start:]]


def _whole(text: str) -> str:
    """`text`, if it can be written as UTF-8: a command line in another encoding arrives with halves
    of characters."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError("text.not_unicode", position=error.start) from None
    return text
