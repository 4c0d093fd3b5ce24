"""The one door to the `tokenizers` library: what comes through it is bounded, and what fails there
is a TokenizerError.

The library raises bare `Exception`, and a panic inside it arrives as a `BaseException` of its own.
A file from a stranger may also ask for things that loading does not need: padding to a billion
tokens, random merges, a pattern that takes hours to match.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lucidlm.errors import LucidError, TokenizerError

if TYPE_CHECKING:
    import tokenizers

MAX_FILE = 200 * 1024 * 1024  # bytes; the largest published tokenizer.json has about 40 MB
MAX_IDS = (
    4_000_000  # the library allocates for every id up to the highest; real ones stay below 300,000
)
MAX_PATTERN = 8192  # characters of one regular expression


@contextmanager
def guarded(key: str, **values: object) -> Iterator[None]:
    """Turn whatever the library throws into TokenizerError(key, detail=..., **values)."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, LucidError):
        raise
    except BaseException as error:  # a Rust panic is not an Exception
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise TokenizerError(key, detail=detail, **values) from None


def read_bytes(path: Path, limit: int = MAX_FILE) -> bytes:
    """The file's content, if there is a readable file of at most `limit` bytes."""
    try:
        if (size := path.stat().st_size) > limit:
            raise TokenizerError("text.too_large", path=path, size=size, limit=limit)
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError("text.unreadable", path=path, detail=error.strerror or "") from None


def read_json(path: Path, limit: int = MAX_FILE) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        value = json.loads(read_bytes(path, limit))
    except (ValueError, RecursionError):
        raise TokenizerError("text.not_json", path=path) from None
    if not isinstance(value, dict):
        raise TokenizerError("text.not_json", path=path)
    return value


def parse_backend(data: bytes, path: object) -> tokenizers.Tokenizer:
    """A tokenizer.json as the library reads it, without padding, truncation and random merges."""
    import tokenizers

    with guarded("text.damaged", path=path):
        backend = tokenizers.Tokenizer.from_buffer(data)
        backend.no_padding()
        backend.no_truncation()
        if max(backend.get_vocab().values(), default=0) >= MAX_IDS:
            raise TokenizerError("text.bad_vocabulary", path=path)
        if getattr(backend.model, "dropout", None):
            backend.model.dropout = None
        for part in (backend.normalizer, backend.pre_tokenizer, backend.decoder):
            for pattern in _patterns(state(part)):
                if len(pattern) > MAX_PATTERN or repeats_a_repetition(pattern):
                    raise TokenizerError("text.slow_pattern", path=path, pattern=pattern[:60])
    return backend


def state(part: Any) -> dict[str, Any]:
    """A normaliser, pre-tokenizer, model or decoder as tokenizer.json spells it; {} for none."""
    value: dict[str, Any] = json.loads(part.__getstate__()) if part is not None else {}
    return value


def steps(part: Any) -> list[dict[str, Any]]:
    """The same, with nested sequences laid out flat."""
    return list(_flat(state(part)))


def _flat(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if value.get("type") == "Sequence":
        for name in ("normalizers", "pretokenizers", "decoders"):
            for inner in value.get(name, ()):
                yield from _flat(inner)
    elif value:
        yield value


def _patterns(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "Regex" and isinstance(inner, str):
                yield inner
            yield from _patterns(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _patterns(inner)


_REPEAT = re.compile(r"[*+]|\{\d*,\}")
_SKIP = re.compile(r"\\.|\[(?:\\.|\[:\w+:\]|[^\]\\])*\]", re.DOTALL)


def repeats_a_repetition(pattern: str) -> bool:
    """Whether an unbounded repetition stands inside another, as in (a+)+: matching may then take
    exponential time."""
    open_groups: list[bool] = []  # does this group hold an unbounded repetition?
    closed = False  # did a group that holds one end just here?
    position = 0
    while position < len(pattern):
        if skipped := _SKIP.match(pattern, position):
            position, closed = skipped.end(), False
        elif repeat := _REPEAT.match(pattern, position):
            if closed:
                return True
            if open_groups:
                open_groups[-1] = True
            position = repeat.end()
        else:
            character = pattern[position]
            closed = False
            if character == "(":
                open_groups.append(False)
            elif character == ")" and open_groups:
                closed = open_groups.pop()
                if closed and open_groups:
                    open_groups[-1] = True
            position += 1
    return False
