"""A trace on disk: one safetensors file, its arrays by address, everything else as JSON in its
header. No pickle; opened without the model for what was captured.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from lucidlm.config import Config
from lucidlm.engine import Engine, Rounding
from lucidlm.errors import LucidError, TraceError
from lucidlm.files import replacing
from lucidlm.generate.settings import GenerationSettings, SamplingSettings
from lucidlm.parameters import parameters
from lucidlm.plain import from_plain
from lucidlm.trace.edits import BoundEdit
from lucidlm.trace.operations import Array
from lucidlm.trace.run import Header, Run, Token
from lucidlm.trace.site import Site
from lucidlm.trace.sites import catalogue, is_causal
from lucidlm.trace.tokenized import Tokenized

VERSION = 1
KEY = "lucidlm.trace"
LOGITS = "chosen.logits"  # (chosen, vocab): what each token was chosen from
EDIT = "edit."  # and a number: what an edit puts in place
CODES = {"float32": "F32", "float64": "F64"}


def save(run: Run, path: str | os.PathLike[str]) -> None:
    """Write what was captured, one array in memory at a time; the file is whole or not there.

    The hypotheses of a beam search are saved one by one. Raises TraceError where it cannot be
    written.
    """
    stored = dict(_stored(run))
    said = _packed(_to_json(run))
    header: dict[str, Any] = {"__metadata__": {KEY: said}}
    offset = 0
    for name, array in stored.items():
        ends = [offset, offset + array.bytes]
        code = CODES[array.dtype.name]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": ends}
        offset += array.bytes
    data = _packed(header).encode()
    data += b" " * (-len(data) % 8)
    try:
        with replacing(Path(path)) as file:
            file.write(struct.pack("<Q", len(data)) + data)
            for array in stored.values():
                values = np.ascontiguousarray(array.read(), dtype=array.dtype.newbyteorder("<"))
                assert values.shape == array.shape
                file.write(values.data.cast("B") if values.size else b"")
    except OSError as error:
        reason = error.strerror or str(error)
        raise TraceError("trace.cannot_write", path=path, reason=reason) from None


class _Stored(NamedTuple):
    """An array of the file, and how to get it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _stored(run: Run) -> Iterator[tuple[str, _Stored]]:
    """Everything that was captured, by name."""
    backing = run.backing
    dtype = np.dtype(np.float64 if run.dtype == "float64" else np.float32)
    for address in sorted(backing.addresses):
        shape = run.catalogue[address].shape(run.length, run.source_length)
        yield address, _Stored(shape, dtype, partial(backing.read, address))
    if run.chosen:
        shape = (len(run.chosen), *backing.logits(run.chosen[0] - 1).shape)
        yield LOGITS, _Stored(shape, dtype, partial(_logits, run))
    for number, edit in enumerate(run.edits):
        array = edit.array
        yield f"{EDIT}{number}", _Stored(array.shape, array.dtype, partial(np.asarray, array))


def _logits(run: Run) -> Array:
    return np.stack([run.backing.logits(position - 1) for position in run.chosen])


def _packed(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _to_json(run: Run) -> dict[str, Any]:
    header = run.header
    settings = header.settings
    return {
        "version": VERSION,
        "name": header.name,
        "config": None if header.config is None else asdict(header.config),
        "dtype": header.dtype,
        "rounding": dict(header.rounding),
        "tokens": [_token_json(token) for token in header.tokens],
        "sources": [_token_json(token) for token in header.sources],
        "prompt_length": header.prompt_length,
        "length": header.length,
        "text": header.text,
        "stop_reason": header.stop_reason,
        "settings": None if settings is None else _settings_json(settings),
        "draws": list(header.draws),
        "beam_score": header.beam_score,
        "tokenized": header.tokenized().to_json(),
        "seconds": list(header.seconds),
        "edits": [edit.to_json() for edit in run.edits],
        "fingerprint": header.fingerprint or fingerprint(run.engine, header.config),
    }


def _token_json(token: Token) -> list[Any]:
    return [token.id, token.bytes.hex(), token.label, token.phase, token.step, token.chosen]


def _settings_json(settings: Any) -> dict[str, Any]:
    """Settings with what JSON lacks spelt out: sets sorted, ids as names."""
    plain: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            value = _settings_json(value)
        elif isinstance(value, frozenset):
            value = sorted(value)
        elif isinstance(value, Mapping):
            value = {str(id): number for id, number in value.items()}
        elif isinstance(value, tuple | list):
            value = list(value)
        plain[field.name] = value
    return plain


def read(
    path: str | os.PathLike[str], engine: Engine | None
) -> tuple[Header, File, tuple[BoundEdit, ...]]:
    """What `save` wrote: header, arrays, edits. With an engine, it must be the one that ran.

    Raises TraceError for a file that is none or is damaged, and for an engine with other weights.
    """
    try:
        file = File(Path(path))
        said = file.header
        config = None if said["config"] is None else from_plain(Config, said["config"], "config")
        header = _header(said, config)
        edits = tuple(_edits(said["edits"], file, catalogue(config, header.rounding)))
        file.check(header)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, LucidError) as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError("trace.damaged", path=str(path), reason=str(error)) from None
    if engine is not None and fingerprint(engine, config) != header.fingerprint:
        raise TraceError("trace.other_model", path=str(path), name=header.name)
    return header, file, edits


def _header(said: Mapping[str, Any], config: Config | None) -> Header:
    if said["version"] != VERSION:
        raise ValueError(f"version {said['version']}, not {VERSION}")
    tokens, sources = (
        tuple(
            Token(position, int(id), bytes.fromhex(data), str(label), phase, step, bool(chosen))
            for position, (id, data, label, phase, step, chosen) in enumerate(said[part])
        )
        for part in ("tokens", "sources")
    )
    prompt, length = int(said["prompt_length"]), int(said["length"])
    draws = tuple(None if draw is None else float(draw) for draw in said["draws"])
    if not 0 < prompt <= len(tokens) or not 0 < length <= len(tokens):
        raise ValueError("lengths")
    if len(draws) != len(tokens) - prompt:
        raise ValueError("draws")
    stages = Tokenized.from_json(said["tokenized"])
    return Header(
        name=str(said["name"]),
        config=config,
        dtype=str(said["dtype"]),
        rounding=_rounding(said.get("rounding", {})),
        tokens=tokens,
        sources=sources,
        prompt_length=prompt,
        length=length,
        source_length=len(sources),
        text=str(said["text"]),
        stop_reason=said["stop_reason"],
        settings=None if said["settings"] is None else _settings(said["settings"]),
        draws=draws,
        beam_score=None if said["beam_score"] is None else float(said["beam_score"]),
        tokenized=lambda: stages,
        seconds=tuple(map(float, said["seconds"])),
        fingerprint=str(said["fingerprint"]),
    )


def _rounding(said: Mapping[str, Any]) -> Mapping[str, Rounding]:
    if not set(said.values()) <= set(get_args(Rounding)):
        raise ValueError("rounding")
    return dict(said)


def _settings(said: Mapping[str, Any]) -> GenerationSettings:
    own = dict(said)
    sampling = dict(own.pop("sampling"))
    bias = {int(id): float(value) for id, value in sampling.pop("logit_bias").items()}
    suppressed = frozenset(map(int, sampling.pop("suppressed")))
    end = frozenset(map(int, own.pop("end")))
    own["stop"] = tuple(own["stop"])
    chosen = SamplingSettings(**sampling, logit_bias=bias, suppressed=suppressed)
    return GenerationSettings(**own, sampling=chosen, end=end)


def _edits(said: Any, file: File, sites: Mapping[str, Site]) -> Iterator[BoundEdit]:
    for number, edit in enumerate(said):
        address = str(edit["address"])
        site = sites[address.partition("[")[0]]
        array = file.array(f"{EDIT}{number}")
        yield BoundEdit(edit["kind"], address, site, array, is_causal(site, sites))


class File:
    """The captured arrays of a saved trace, mapped into memory and read when asked for."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            if path.stat().st_size == 0:
                raise ValueError("empty")
            self.opened: Any = safe_open(path, framework="numpy")
        except OSError as error:
            reason = error.strerror or str(error)
            raise TraceError("trace.cannot_read", path=str(path), reason=reason) from None
        except SafetensorError as error:
            raise TraceError("trace.damaged", path=str(path), reason=str(error)) from None

    @cached_property
    def header(self) -> dict[str, Any]:
        said = (self.opened.metadata() or {}).get(KEY)
        if said is None:
            raise TraceError("trace.no_trace", path=str(self.path))
        found = json.loads(said)
        if not isinstance(found, dict):
            raise ValueError(KEY)
        return found

    @cached_property
    def addresses(self) -> frozenset[str]:
        names = self.opened.keys()
        return frozenset(n for n in names if n != LOGITS and not n.startswith(EDIT))

    def array(self, name: str) -> Array:
        found: Array = self.opened.get_tensor(name)
        return found

    def read(self, address: str) -> Array:
        return self.array(address)

    def logits(self, position: int) -> Array:
        row = position + 1 - int(self.header["prompt_length"])
        found: Array = self.opened.get_slice(LOGITS)[row]
        return found

    def check(self, header: Header) -> None:
        """Every array is a site of the model, as large as the run was."""
        sites = catalogue(header.config, header.rounding)
        for address in self.addresses:
            shape = sites[address].shape(header.length, header.source_length)
            if tuple(self.opened.get_slice(address).get_shape()) != shape:
                raise ValueError(address)


def fingerprint(engine: Engine | None, config: Config | None) -> str:
    """Tells models apart: the config, and a few numbers of every parameter."""
    if engine is None or config is None:
        return ""
    found = hashlib.blake2b(repr(config).encode(), digest_size=16)
    for address, shape in parameters(config).items():
        weight = engine.weight(address)
        places = np.linspace(0, weight.size - 1, num=min(64, weight.size)).astype(np.int64)
        found.update(f"{address}{shape}".encode())
        found.update(np.asarray(weight.flat[places], np.float64).tobytes())
    return found.hexdigest()
