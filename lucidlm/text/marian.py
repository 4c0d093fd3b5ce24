"""Marian's tokenizers (OPUS-MT): two SentencePiece models, and one vocab.json with the ids of both
languages' pieces.

A source text is cut by source.spm alone, then each piece is looked up in vocab.json, an unknown
stretch as well; decoding reads vocab.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lucidlm.errors import TokenizerError
from lucidlm.text import gguf, sentencepiece
from lucidlm.text.backend import guarded, read_bytes, read_json
from lucidlm.text.tokenizer import Specials, Tokenizer

FILES = ("source.spm", "target.spm", "vocab.json")


def load(folder: Path, config: dict[str, Any], chat_template: str | None) -> Tokenizer:
    """The tokenizer of a folder with source.spm, target.spm and vocab.json."""
    from tokenizers import AddedToken

    source = sentencepiece.read(read_bytes(folder / "source.spm"), folder / "source.spm")
    names = _names(read_json(folder / "vocab.json"), folder / "vocab.json")
    if "<unk>" not in names or "</s>" not in names:
        raise TokenizerError("text.bad_vocabulary", path=folder / "vocab.json")
    backend = sentencepiece.build(source)
    controls = [name for name in names if name in ("</s>", "<pad>") or _is_language(name)]
    with guarded("text.damaged", path=folder / "vocab.json"):
        backend.add_special_tokens([AddedToken(name, normalized=False) for name in controls])
    gguf.surround(backend, None, backend.token_to_id("</s>"))
    kept = (*FILES, "tokenizer_config.json")
    files = {name: read_bytes(folder / name) for name in kept if (folder / name).is_file()}
    pad = names.index("<pad>") if "<pad>" in names else None
    specials = Specials(eos=(names.index("</s>"),), unk=names.index("<unk>"), pad=pad)
    return Tokenizer(backend, specials, chat_template, names=names, files=files)


def _is_language(name: str) -> bool:
    """Codes such as >>fra<< choose the target language."""
    return name.startswith(">>") and name.endswith("<<")


def _names(vocab: dict[str, Any], path: Path) -> list[str]:
    """Pieces by id; the ids must be 0 to n - 1."""
    ordered = sorted(vocab.items(), key=lambda item: item[1] if type(item[1]) is int else -1)
    if [id for _, id in ordered] != list(range(len(vocab))):
        raise TokenizerError("text.bad_vocabulary", path=path)
    return [name for name, _ in ordered]
