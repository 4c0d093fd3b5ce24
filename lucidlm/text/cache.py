"""Tokenizers built from GGUF metadata, kept on disk: deriving Gemma's half million merges takes
seconds, reading them less.

A kept file is a tokenizer.json whose BPE vocabulary and merges stand apart as three columns: the
library takes those in two thirds of the time that it needs for its own file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lucidlm.errors import TokenizerError
from lucidlm.files import write_atomic
from lucidlm.home import tokenizers_home
from lucidlm.text import gguf
from lucidlm.text.backend import guarded, parse_backend, read_bytes
from lucidlm.text.template import source_in
from lucidlm.text.tokenizer import Specials, Tokenizer

if TYPE_CHECKING:
    import tokenizers

OPTIONS = ("unk_token", "fuse_unk", "byte_fallback", "ignore_merges")  # of a BPE from GGUF
BUILD = 1  # raise it when the same metadata would give another tokenizer


def tokenizer_from_gguf(
    metadata: Mapping[str, object], fingerprint: str | None = None
) -> Tokenizer:
    """The tokenizer in a GGUF file's metadata; what was built is kept on disk under `fingerprint`,
    which names the file's content."""
    path = None if fingerprint is None else cache_path(fingerprint)
    backend = None if path is None else _read(path)
    if backend is None:
        backend = gguf.build(metadata)
        if path is not None:
            _write(path, backend)
    return Tokenizer(
        backend, specials_of(metadata, backend), source_in(metadata), size=backend.get_vocab_size()
    )


def specials_of(metadata: Mapping[str, object], backend: tokenizers.Tokenizer) -> Specials:
    """Special ids that the metadata names; every way to end a turn counts as `eos`."""
    size = backend.get_vocab_size()

    def id_of(*names: str) -> int | None:
        found = (gguf.id_at(metadata, f"{name}_token_id", size) for name in names)
        return next((id for id in found if id is not None), None)

    bert = metadata.get("tokenizer.ggml.model") == "bert"
    ends = [id for name in ("eos", "eot", "eom") if (id := id_of(name)) is not None]
    return Specials(
        bos=id_of("bos"),
        eos=tuple(dict.fromkeys(ends)),
        unk=id_of("unknown"),
        pad=id_of("padding"),
        mask=id_of("mask"),
        cls=id_of("cls", "bos") if bert else id_of("cls"),
        sep=id_of("seperator", "separator", "eos") if bert else id_of("seperator", "separator"),
    )


def cache_path(fingerprint: str) -> Path:
    """Where the tokenizer of the file with this fingerprint is kept."""
    safe = re.fullmatch(r"[\w.-]{1,100}", fingerprint, re.ASCII) and not fingerprint.startswith(".")
    name = fingerprint if safe else hashlib.sha256(fingerprint.encode(errors="replace")).hexdigest()
    return tokenizers_home() / f"{name}.{BUILD}.json"


def pack(backend: tokenizers.Tokenizer) -> bytes:
    """The kept form of a tokenizer."""
    value = json.loads(backend.to_str())
    kept: dict[str, Any] = {"tokenizer": value}
    model = value["model"]
    if model["type"] == "BPE":
        vocab = model["vocab"]
        kept["tokens"] = sorted(vocab, key=vocab.__getitem__)
        kept["left"] = [left for left, _ in model["merges"]]
        kept["right"] = [right for _, right in model["merges"]]
        kept["added"] = [(token["content"], token["special"]) for token in value["added_tokens"]]
        kept["options"] = {name: model[name] for name in OPTIONS}
        value["model"] = {"type": "BPE", "vocab": {}, "merges": []}
        value["added_tokens"] = []
    return json.dumps(kept, ensure_ascii=False).encode()


def unpack(data: bytes, path: Path) -> tokenizers.Tokenizer:
    """The tokenizer in its kept form."""
    from tokenizers import AddedToken, models

    with guarded("text.damaged", path=path):
        kept = json.loads(data)
        backend = parse_backend(json.dumps(kept["tokenizer"]).encode(), path)
        if "tokens" in kept:
            vocab = {token: id for id, token in enumerate(kept["tokens"])}
            merges = list(zip(kept["left"], kept["right"], strict=True))
            backend.model = models.BPE(vocab, merges, **kept["options"])
            for wanted in (True, False):
                texts = [text for text, special in kept["added"] if special == wanted]
                added = [AddedToken(text, normalized=False, special=wanted) for text in texts]
                backend.add_special_tokens(added) if wanted else backend.add_tokens(added)
    return backend


def _read(path: Path) -> tokenizers.Tokenizer | None:
    """The kept tokenizer; None when there is none or it is damaged."""
    try:
        return unpack(read_bytes(path), path)
    except TokenizerError:
        return None


def _write(path: Path, backend: tokenizers.Tokenizer) -> None:
    """Keep a tokenizer where that is possible; a home that cannot be written costs time only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, pack(backend))
    except OSError:
        return
