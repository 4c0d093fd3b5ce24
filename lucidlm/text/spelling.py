"""How vocabulary entries spell bytes: GPT-2's byte alphabet, ▁ for a space, <0xE5> for a byte, ##
inside a word.

Every tokenizer's text is the plain concatenation of what its tokens contribute, minus one leading
space where `joiner` or `lead_space` says that the first token brings a space of its own. Decoding,
streaming and explaining all rest on that.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lucidlm.text.backend import guarded, state, steps

if TYPE_CHECKING:
    import tokenizers

MARK = "▁"  # SentencePiece's visible space, U+2581


@cache
def byte_alphabet() -> dict[str, int]:
    """GPT-2's 256 printable characters and the byte each one stands for (Radford et al. 2019).

    Printable Latin-1 stands for itself; the other 68 bytes are, in order, the characters from
    U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return alphabet | {chr(0x100 + n): byte for n, byte in enumerate(others)}


@dataclass(frozen=True)
class Spelling:
    """From a vocabulary entry to the bytes it stands for.

    `joiner` goes before every entry that does not continue a word (WordPiece). `lead_space`:
    decoding drops one space at the very start, because encoding had put it there.
    """

    own: Callable[[str], bytes]
    starts_word: Callable[[str], bool] | None = None
    lead_space: bool = False

    def bytes_of(self, piece: str) -> bytes:
        """All that the entry adds to a text, a joining space included."""
        joiner = b" " if self.starts_word is not None and self.starts_word(piece) else b""
        return joiner + self.own(piece)


def spelling_of(backend: tokenizers.Tokenizer) -> Spelling:
    """The spelling that a tokenizer's decoder undoes."""
    decoder = {step["type"]: step for step in steps(backend.decoder)}
    if "ByteLevel" in decoder:
        return Spelling(_byte_level)
    if wordpiece := decoder.get("WordPiece"):
        return _wordpiece(wordpiece["prefix"], wordpiece["cleanup"])
    if metaspace := decoder.get("Metaspace"):
        lead = metaspace["prepend_scheme"] != "never"
        return Spelling(
            _marked(metaspace["replacement"], "ByteFallback" in decoder), lead_space=lead
        )
    if "Replace" in decoder and decoder["Replace"]["content"] == " ":
        mark = decoder["Replace"]["pattern"].get("String", MARK)
        strip = decoder.get("Strip", {})
        lead = strip.get("content") == " " and strip.get("start", 0) > 0
        return Spelling(_marked(mark, "ByteFallback" in decoder), lead_space=lead)
    if not decoder and state(backend.pre_tokenizer).get("type") in (
        "Whitespace",
        "WhitespaceSplit",
    ):
        return Spelling(_plain, starts_word=lambda piece: True, lead_space=True)
    if not decoder or set(decoder) <= {"Fuse", "ByteFallback"}:
        return Spelling(_marked(None, "ByteFallback" in decoder))
    return Spelling(_as_library(backend.decoder))


def _as_library(decoder: tokenizers.decoders.Decoder) -> Callable[[str], bytes]:
    """Whatever the library makes of an entry on its own, for decoders of rarer kinds."""

    def own(piece: str) -> bytes:
        with guarded("text.cannot_decode"):
            return decoder.decode([piece]).encode()

    return own


def _plain(piece: str) -> bytes:
    return piece.encode()


def _byte_level(piece: str) -> bytes:
    alphabet = byte_alphabet()
    try:
        return bytes(alphabet[character] for character in piece)
    except KeyError:  # an entry outside the alphabet stands for itself
        return piece.encode()


def _marked(mark: str | None, byte_fallback: bool) -> Callable[[str], bytes]:
    def own(piece: str) -> bytes:
        if byte_fallback and (byte := fallback_byte(piece)) is not None:
            return bytes([byte])
        return (piece.replace(mark, " ") if mark else piece).encode()

    return own


def _wordpiece(prefix: str, cleanup: bool) -> Spelling:
    """BERT's decoder puts a space before each word; with `cleanup` none before closing punctuation
    and 's 't 're."""
    tight = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"} if cleanup else set()
    return Spelling(
        lambda piece: piece.removeprefix(prefix).encode(),
        starts_word=lambda piece: not piece.startswith(prefix) and piece not in tight,
        lead_space=True,
    )


def fallback_byte(piece: str) -> int | None:
    """The byte that an entry such as <0xE5> stands for, if it is one."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        try:
            return int(piece[3:5], 16)
        except ValueError:
            return None
    return None


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    bad = error.object[error.start : error.end]
    return "".join(f"\\x{byte:02X}" for byte in bad), error.end


ESCAPE = "lucidlm.escape"  # error handler: bytes that are no text show as \xE5
codecs.register_error(ESCAPE, _escape)


def readable(data: bytes) -> str:
    r"""UTF-8 with what is not UTF-8 as visible escapes: b"\xe5ok" is "\\xE5ok"."""
    return data.decode("utf-8", errors=ESCAPE)


def labels(pieces: Sequence[bytes]) -> list[str]:
    """What to show for each of consecutive tokens: its text, with a part of a character named as
    such.

    The second byte of 好 is `好 2/3 (A5)`; a token that holds more than that part has both, joined
    by " + ".
    """
    whole = b"".join(pieces)
    units = _characters(whole)
    found, start, unit = [], 0, 0
    for piece in pieces:
        end = start + len(piece)
        parts: list[str] = []
        text = ""
        while unit < len(units) and units[unit][0] < end:
            first, last = units[unit]
            low, high = max(first, start), min(last, end)
            character = readable(whole[first:last])
            if (low, high) == (first, last):
                text += character
            else:
                parts += [text] if text else []
                parts.append(_part(character, low - first, high - first, whole[first:last]))
                text = ""
            if last > end:
                break
            unit += 1
        parts += [text] if text or not parts else []
        found.append(" + ".join(parts))
        start = end
    return found


def _part(character: str, low: int, high: int, data: bytes) -> str:
    which = f"{low + 1}" if high == low + 1 else f"{low + 1}-{high}"
    return f"{character} {which}/{len(data)} ({data[low:high].hex(' ').upper()})"


def _characters(data: bytes) -> list[tuple[int, int]]:
    """Byte ranges of the characters of `data`; a byte that belongs to none is a range of its
    own."""
    ranges, position = [], 0
    while position < len(data):
        first = data[position]
        size = 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
        try:
            data[position : position + size].decode()
        except UnicodeDecodeError:
            size = 1
        ranges.append((position, min(position + size, len(data))))
        position += size
    return ranges
