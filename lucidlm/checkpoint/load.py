"""From a name to a checkpoint: which folder or file it is, its family and config, its weights when
they are asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lucidlm.checkpoint.catalogue import catalogue, is_pulled
from lucidlm.checkpoint.convert import read_weights, stored_weights
from lucidlm.checkpoint.gguf import GGUF, open_gguf
from lucidlm.checkpoint.hub import fetch_from_hub
from lucidlm.checkpoint.safetensors import open_safetensors
from lucidlm.checkpoint.shipped import shipped
from lucidlm.checkpoint.tensors import TensorSource
from lucidlm.config import Config
from lucidlm.errors import CheckpointError, UnknownName
from lucidlm.families import by_architecture, by_model_type, presets
from lucidlm.families.family import Family, Rule
from lucidlm.stored import Stored

MOST_JSON = 64 << 20  # bytes; a config.json is a few kilobytes


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk: what it is, and how to get at its weights."""

    name: str
    path: Path  # a folder in Hugging Face's layout, or a file of weights
    family: Family
    config: Config
    hints: Hints
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...]
    metadata: Mapping[str, Any] | None  # the keys of a GGUF file, decoded when asked for

    @property
    def is_gguf(self) -> bool:
        return self.metadata is not None

    def weights(self, dtype: DTypeLike = np.float32) -> Iterator[tuple[str, NDArray[np.floating]]]:
        """Every parameter's address and array, one at a time."""
        with self.open() as source:
            yield from read_weights(
                source,
                self.rules,
                self.config,
                prefix=self.family.prefix,
                ignored=self.ignored,
                dtype=dtype,
            )

    def stored(self, formats: Collection[str]) -> Iterator[tuple[str, Stored]]:
        """Every parameter's address and what the file holds of it, in one of `formats` or F32."""
        with self.open() as source:
            yield from stored_weights(
                source,
                self.rules,
                self.config,
                prefix=self.family.prefix,
                ignored=self.ignored,
                formats=formats,
            )

    def open(self) -> TensorSource:
        """The weights as they are stored."""
        return open_gguf(self.path) if self.is_gguf else open_safetensors(self.path)

    @property
    def fingerprint(self) -> str:
        """Tells this file from others and from later versions of itself, for what is derived from
        it and kept.
        """
        stat = self.path.stat()
        identity = f"{self.path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a checkpoint says about generating with it; None where it says nothing."""

    bos: int | None = None
    end: frozenset[int] = frozenset()
    pad: int | None = None
    decoder_start: int | None = None
    forced_bos: int | None = None
    suppressed: frozenset[int] = frozenset()
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False


def resolve(name: str) -> Path:
    """The folder or file that `name` means: a path, a model of the package, a pulled one, or a
    Hugging Face id (which is fetched).

    Raises UnknownName when it is none of them, and CheckpointError when a model is known but not on
    this machine.
    """
    path = Path(name).expanduser()
    if path.exists():
        return _within(path)
    if name in shipped():
        return shipped()[name].folder
    if name in catalogue():
        row = catalogue()[name]
        if row.family == "glove":
            raise CheckpointError("load.vectors", name=name)
        if not is_pulled(row):
            raise CheckpointError(
                "load.not_pulled", name=name, megabytes=row.download_bytes // 1_000_000
            )
        return _within(row.folder)
    if path.suffix or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise CheckpointError("load.no_file", path=name)
    if "/" in name:
        return _within(fetch_from_hub(name))
    raise UnknownName("load.unknown", name, [*shipped(), *catalogue()])


def _within(path: Path) -> Path:
    """What to open at `path`: a folder with a config.json, or a file of weights."""
    if path.name == "config.json":
        path = path.parent
    if path.is_file():
        if path.suffix in (".gguf", ".ngram") or (path.parent / "config.json").is_file():
            return path
        raise CheckpointError("load.no_config", path=str(path))
    if (path / "config.json").is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    raise CheckpointError("load.no_model", path=str(path), found=len(files))


def open_checkpoint(name: str) -> Checkpoint:
    """The checkpoint called `name`; its weights are not read yet."""
    return checkpoint_at(resolve(name), name)


def checkpoint_at(path: Path, name: str) -> Checkpoint:
    """The checkpoint that `resolve` found for `name`."""
    if path.suffix == ".ngram":
        raise CheckpointError("load.ngram", path=str(path))
    if path.suffix == ".gguf":
        with open_gguf(path) as file:
            return _from_gguf(name, path, file)
    folder = path if path.is_dir() else path.parent
    hf = read_json(folder / "config.json")
    family = by_model_type(hf)
    config = family.read(hf)
    generation = folder / "generation_config.json"
    said = hf | (read_json(generation) if generation.is_file() else {})
    return Checkpoint(
        name, path, family, config, _hints(said), family.rules(config), family.ignored, None
    )


def read_config(name: str) -> Config:
    """The config alone: of a preset, a config.json, or whatever `open_checkpoint` takes. Nothing
    else is read.
    """
    known = presets()
    if Path(name).is_file() and Path(name).suffix == ".json":
        hf = read_json(Path(name))
        return by_model_type(hf).read(hf)
    if name in known and not Path(name).exists():
        family, hf = known[name]
        return family.read(dict(hf))
    try:
        return open_checkpoint(name).config
    except UnknownName:
        raise UnknownName("load.unknown_config", name, [*shipped(), *catalogue(), *known]) from None


def preset_names() -> list[str]:
    """Well-known architectures that `read_config` knows by name."""
    return list(presets())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file of bounded size."""
    try:
        if path.stat().st_size > MOST_JSON:
            raise CheckpointError("load.large_json", path=str(path), most=MOST_JSON >> 20)
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("load.json", path=str(path), reason=str(error)) from error
    if not isinstance(found, dict):
        raise CheckpointError("load.json", path=str(path), reason=type(found).__name__)
    return found


def _from_gguf(name: str, path: Path, file: GGUF) -> Checkpoint:
    architecture = file.metadata.get("general.architecture")
    family = by_architecture(architecture)
    assert family.gguf is not None and isinstance(architecture, str)
    if "token_embd.weight" not in file.names:
        raise CheckpointError(
            "mapping.missing", name="token_embd.weight", ours="embedding.tokens.weight"
        )
    config = family.gguf.read(file)
    keys = file.metadata
    ends = [keys.get(f"tokenizer.ggml.{x}_token_id") for x in ("eos", "eot", "eom")]
    hints = Hints(
        bos=_id(keys.get("tokenizer.ggml.bos_token_id")),
        end=_ids(ends),
        pad=_id(keys.get("tokenizer.ggml.padding_token_id")),
    )
    rules = family.gguf.rules(architecture)
    return Checkpoint(name, path, family, config, hints, rules, family.gguf.ignored, keys)


def _hints(said: dict[str, Any]) -> Hints:
    # only single tokens can be forbidden by a logit; longer lists forbid sequences
    words = said.get("bad_words_ids")
    several = words if _is_list(words) else []
    bad = [word[0] for word in several if _is_list(word) and len(word) == 1]
    return Hints(
        bos=_id(said.get("bos_token_id")),
        end=_ids(said.get("eos_token_id")),
        pad=_id(said.get("pad_token_id")),
        decoder_start=_id(said.get("decoder_start_token_id")),
        forced_bos=_id(said.get("forced_bos_token_id")),
        suppressed=_ids(bad) | _ids(said.get("suppress_tokens")),
        beams=_id(said.get("num_beams")) or 1,
        length_penalty=_number(said.get("length_penalty"), 1.0),
        early_stopping=said.get("early_stopping") in (True, "never") and said["early_stopping"],
    )


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _ids(value: object) -> frozenset[int]:
    """The token ids in a list, or a single one; what is no id is not one of them."""
    several = value if _is_list(value) else [value]
    return frozenset(id for x in several if (id := _id(x)) is not None)


def _id(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default
