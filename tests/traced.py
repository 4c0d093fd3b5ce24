"""Traces of the golden models, which have no tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from golden import golden

from lucidlm.generate.settings import GenerationSettings, SamplingSettings
from lucidlm.trace.edits import Edit
from lucidlm.trace.record import Recording, Subject, record
from lucidlm.trace.trace import Trace


class Letters:
    """A vocabulary whose words are the byte 0x30 + id."""

    lead_space = False

    def bytes_of(self, id: int) -> bytes:
        return bytes([0x30 + id])

    def is_special(self, id: int) -> bool:
        return False


def traced(
    family: str,
    shape: str,
    dtype: str = "float32",
    *,
    ids: Sequence[int] | None = None,
    edits: Sequence[Edit] = (),
    new: int = 3,
    **sampling: Any,
) -> Trace:
    """The golden model reads its input (or `ids`) and, unless it is an encoder, writes `new`."""
    pair = golden(family, shape)
    config = pair.checkpoint.config
    prompt = pair.ids[0].tolist() if ids is None else list(ids)
    subject = Subject(
        name=family,
        engine=pair.engine(dtype),
        config=config,
        decoder=Letters(),
        prompts=[prompt],
        sources=None if pair.source is None else [pair.source[0].tolist()],
    )
    settings = None
    if config.kind != "encoder":
        settings = GenerationSettings(max_new_tokens=new, sampling=SamplingSettings(**sampling))
    return record(subject, settings, Recording(edits=edits))[0]


@cache
def plain(family: str, shape: str, dtype: str = "float32") -> Trace:
    """The same without edits, made once a process."""
    return traced(family, shape, dtype)
