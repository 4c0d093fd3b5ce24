"""SentencePiece vocabularies (Kudo & Richardson 2018): read a .model or .spm file, and build what
the `tokenizers` library runs.

The file is one protobuf message; we read the dozen fields we need. GGUF carries the same facts in
its metadata and comes in through the same `SentencePiece` record. Two kinds: Unigram, and BPE,
whose file lists no merges: they follow from the scores.

One known difference: for long grapheme clusters (six bytes and more, such as conjoining Hangul) the
library applies a normalisation table character by character, where SentencePiece looks for the
longest match.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lucidlm.errors import TokenizerError
from lucidlm.text.backend import MAX_IDS, guarded
from lucidlm.text.spelling import MARK

if TYPE_CHECKING:
    import tokenizers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of pieces


@dataclass(frozen=True, kw_only=True)
class SentencePiece:
    """A vocabulary with scores, and how its text is normalised. A piece's id is its place in the
    list."""

    kind: Literal["unigram", "bpe"]
    pieces: list[str]
    scores: list[float]
    types: list[int]
    charsmap: bytes = b""  # a compiled table of replacements, such as NFKC
    add_dummy_prefix: bool = True  # a space before the text
    remove_extra_whitespaces: bool = True
    byte_fallback: bool = False
    unk: int | None = None
    bos: int | None = None
    eos: int | None = None
    pad: int | None = None

    def __post_init__(self) -> None:
        counts = {len(self.pieces), len(self.scores), len(self.types)}
        if len(counts) > 1 or not 0 < len(self.pieces) <= MAX_IDS:
            raise TokenizerError("text.bad_vocabulary", path="vocabulary")


def build(model: SentencePiece) -> tokenizers.Tokenizer:
    """The library's tokenizer for this vocabulary, without a post-processor; control pieces are
    special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers

    model = _spaced(model)
    with guarded("text.damaged", path="vocabulary"):
        backend = Tokenizer(_unigram(model) if model.kind == "unigram" else _bpe(model))
        backend.normalizer = normalizers.Sequence(list(_normalizers(model)))
        normal = (p for p, t in zip(model.pieces, model.types, strict=True) if t == NORMAL)
        if all(MARK not in piece[1:] for piece in normal):  # then no piece reaches across a space
            backend.pre_tokenizer = pre_tokenizers.Split(MARK, "merged_with_next")
        last = [decoders.Strip(" ", 1, 0)] if model.add_dummy_prefix else []
        byte_fallback = [decoders.ByteFallback()] if model.byte_fallback else []
        backend.decoder = decoders.Sequence(
            [decoders.Replace(MARK, " "), *byte_fallback, decoders.Fuse(), *last]
        )
        for wanted, special in ((CONTROL, True), (UNKNOWN, True), (USER_DEFINED, False)):
            texts = [p for p, t in zip(model.pieces, model.types, strict=True) if t == wanted and p]
            tokens = [AddedToken(text, normalized=False, special=special) for text in texts]
            backend.add_special_tokens(tokens) if special else backend.add_tokens(tokens)
    return backend


def _spaced(model: SentencePiece) -> SentencePiece:
    """User-defined pieces such as ▁▁ (Gemma's runs of spaces) as they stand in a text, where they
    are found before anything is normalised; GGUF files have them so already."""
    rows = zip(model.pieces, model.types, strict=True)
    return replace(
        model, pieces=[p.replace(MARK, " ") if t == USER_DEFINED else p for p, t in rows]
    )


def _normalizers(model: SentencePiece) -> Iterator[tokenizers.normalizers.Normalizer]:
    from tokenizers import Regex, normalizers

    if model.charsmap:
        yield normalizers.Precompiled(model.charsmap)
    if model.remove_extra_whitespaces:
        yield normalizers.Replace(Regex(r"\A +| +\z"), "")
        yield normalizers.Replace(Regex(" {2,}"), " ")
    if model.add_dummy_prefix:
        yield normalizers.Prepend(MARK)
    yield normalizers.Replace(" ", MARK)


def _unigram(model: SentencePiece) -> tokenizers.models.Unigram:
    from tokenizers import models

    known = [
        s for s, t in zip(model.scores, model.types, strict=True) if t in (NORMAL, USER_DEFINED)
    ]
    floor = min(known, default=0.0)
    scores = [
        floor if kind == BYTE else score
        for score, kind in zip(model.scores, model.types, strict=True)
    ]
    vocab = list(zip(model.pieces, scores, strict=True))
    return models.Unigram(vocab, model.unk, model.byte_fallback)


def _bpe(model: SentencePiece) -> tokenizers.models.BPE:
    from tokenizers import models

    vocab = {piece: id for id, piece in enumerate(model.pieces)}
    if len(vocab) != len(model.pieces):
        raise TokenizerError("text.duplicate_pieces", path="vocabulary")
    return models.BPE(
        vocab,
        list(merges(model)),
        unk_token=None if model.unk is None else model.pieces[model.unk],
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )


def merges(model: SentencePiece) -> Iterator[tuple[str, str]]:
    """The merges of a SentencePiece BPE, best first: every way to make a piece out of two, by the
    score of what it makes.

    SentencePiece joins whichever neighbours make the best-scored piece, the leftmost first.
    """
    usable = {
        piece: id
        for id, (piece, kind) in enumerate(zip(model.pieces, model.types, strict=True))
        if kind in (NORMAL, UNUSED)
    }
    scores = model.scores
    found = []
    for piece, id in usable.items():
        score = -scores[id]
        for cut in range(1, len(piece)):
            if (left := piece[:cut]) in usable and (right := piece[cut:]) in usable:
                found.append((score, id, -cut, left, right))
    found.sort(key=lambda merge: merge[:3])
    return ((left, right) for *_, left, right in found)


def shifted(model: SentencePiece) -> SentencePiece:
    """XLM-R's ids: <s> <pad> </s> <unk>, the pieces behind the file's own first three, <mask>."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *model.pieces[3:], "<mask>"]
    scores = [0.0] * 4 + model.scores[3:] + [0.0]
    types = [CONTROL, CONTROL, CONTROL, UNKNOWN, *model.types[3:], CONTROL]
    return replace(model, pieces=pieces, scores=scores, types=types, unk=3, bos=0, eos=2, pad=1)


def with_blanks(model: SentencePiece, count: int) -> SentencePiece:
    """T5's sentinels behind the pieces, the last first: <extra_id_99> ... <extra_id_0>."""
    count = max(0, min(count, 10_000))
    blanks = [f"<extra_id_{number}>" for number in reversed(range(count))]
    return replace(
        model,
        pieces=model.pieces + blanks,
        scores=model.scores + [0.0] * count,
        types=model.types + [CONTROL] * count,
    )


def read(data: bytes, path: object) -> SentencePiece:
    """The record in a .model or .spm file's bytes."""
    try:
        return _read(data, path)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise TokenizerError("text.bad_vocabulary", path=path) from None


def _read(data: bytes, path: object) -> SentencePiece:
    pieces: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    trainer: dict[int, int] = {}
    rules: dict[int, int | bytes] = {}
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            entry = dict(_fields(value))
            text, score = entry.get(1, b""), entry.get(2, b"\0\0\0\0")
            if (
                not isinstance(text, bytes)
                or not isinstance(score, bytes)
                or len(pieces) >= MAX_IDS
            ):
                raise TokenizerError("text.bad_vocabulary", path=path)
            pieces.append(text.decode())
            scores.append(struct.unpack("<f", score)[0])
            types.append(_int(entry.get(3, NORMAL)))
        elif field == 2 and isinstance(value, bytes):
            trainer = {
                number: _int(inner) for number, inner in _fields(value) if number in _TRAINER
            }
        elif field == 3 and isinstance(value, bytes):
            rules = dict(_fields(value))
    kind = {1: "unigram", 2: "bpe", 4: "unigram"}.get(
        trainer.get(3, 1)
    )  # 4: characters, the trivial Unigram
    if kind is None or not pieces:
        raise TokenizerError("text.bad_vocabulary", path=path)
    charsmap = rules.get(2, b"")

    def id_of(field: int, default: int) -> int | None:
        id = trainer.get(field, default)
        return id if 0 <= id < len(pieces) else None

    return SentencePiece(
        kind="bpe" if kind == "bpe" else "unigram",
        pieces=pieces,
        scores=scores,
        types=types,
        charsmap=charsmap if isinstance(charsmap, bytes) else b"",
        add_dummy_prefix=rules.get(3, 1) != 0,
        remove_extra_whitespaces=rules.get(4, 1) != 0,
        byte_fallback=trainer.get(35, 0) != 0,
        unk=id_of(40, 0),
        bos=id_of(41, 1),
        eos=id_of(42, 2),
        pad=id_of(43, -1),
    )


_TRAINER = (3, 35, 40, 41, 42, 43)  # model_type, byte_fallback, the four ids


def _int(value: int | bytes) -> int:
    """A protobuf int32: negative numbers are stored as 64-bit two's complement."""
    if isinstance(value, bytes):
        raise IndexError
    return value - (1 << 64) if value >> 63 else value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of one protobuf message: varints as int, everything else as
    bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire not in (1, 2, 5):
            raise IndexError
        size = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            size, position = _varint(data, position)
        if size > len(data) - position:
            raise IndexError
        yield number, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), position
    raise IndexError
