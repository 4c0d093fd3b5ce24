"""Marian's tokenizers (OPUS-MT): two SentencePiece models, and one vocab.json with the ids of both
languages' pieces.

A source text is cut by source.spm alone, then each piece is looked up in vocab.json. As one
tokenizer of the library: a Unigram over the ids of vocab.json, in which source.spm's pieces have
their scores and every other entry is a text that cannot occur. Pieces that vocab.json lacks follow
behind its ids, and become <unk>. Decoding reads vocab.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lucidlm.errors import TokenizerError
from lucidlm.text import gguf, sentencepiece
from lucidlm.text.library import read_bytes, read_json
from lucidlm.text.sentencepiece import CONTROL, NORMAL, SentencePiece
from lucidlm.text.tokenizer import Specials, Tokenizer

FILES = frozenset({"source.spm", "target.spm", "vocab.json"})


def load(folder: Path, config: dict[str, Any], chat_template: str | None) -> Tokenizer:
    """The tokenizer of a folder with source.spm, target.spm and vocab.json."""
    source = sentencepiece.read(read_bytes(folder / "source.spm"), folder / "source.spm")
    names = _names(read_json(folder / "vocab.json"), folder / "vocab.json")
    ids = {name: id for id, name in enumerate(names)}
    unk, eos, pad = (ids.get(name) for name in ("<unk>", "</s>", "<pad>"))
    if unk is None or eos is None or source.kind != "unigram":
        raise TokenizerError("text.bad_vocabulary", path=folder)
    backend = sentencepiece.build(_joined(source, names, unk))
    gguf.surround(backend, None, eos)
    files = {
        name: read_bytes(folder / name)
        for name in (*FILES, "tokenizer_config.json")
        if (folder / name).is_file()
    }
    specials = Specials(eos=(eos,), unk=unk, pad=pad)
    return Tokenizer(backend, specials, chat_template, names=names, files=files)


def _names(vocab: dict[str, Any], path: Path) -> list[str]:
    """Pieces by id; the ids must be 0 to n - 1."""
    names: list[str | None] = [None] * len(vocab)
    for name, id in vocab.items():
        if type(id) is not int or not 0 <= id < len(vocab):
            raise TokenizerError("text.bad_vocabulary", path=path)
        names[id] = name
    whole = [name for name in names if name is not None]
    if len(whole) != len(vocab):
        raise TokenizerError("text.bad_vocabulary", path=path)
    return whole


def _joined(source: SentencePiece, names: list[str], unk: int) -> SentencePiece:
    """One vocabulary over vocab.json's ids in which only the source's pieces can match.

    An impossible entry holds a plain space, which normalising turns into ▁. Codes such as >>fra<<
    choose the target language and are control tokens like </s>.
    """
    entries = zip(source.pieces, source.scores, source.types, strict=True)
    scores = {piece: score for piece, score, kind in entries if kind == NORMAL}
    floor = min(scores.values(), default=0.0)
    known = set(names)
    pieces, types = [], []
    for id, name in enumerate(names):
        control = name in ("</s>", "<pad>") or (name.startswith(">>") and name.endswith("<<"))
        pieces.append(name if control or id == unk or name in scores else f" {id}")
        types.append(CONTROL if control else sentencepiece.UNKNOWN if id == unk else NORMAL)
    beyond = [piece for piece in scores if piece not in known]
    pieces += beyond
    return SentencePiece(
        kind="unigram",
        pieces=pieces,
        scores=[scores.get(piece, floor) for piece in pieces],
        types=types + [NORMAL] * len(beyond),
        charsmap=source.charsmap,
        add_dummy_prefix=source.add_dummy_prefix,
        remove_extra_whitespaces=source.remove_extra_whitespaces,
        unk=unk,
    )
