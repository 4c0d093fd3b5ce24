"""Runs of the golden pairs under a recorder: every family and shape, rows and batches. The models
have no tokenizer; token 7 reads " w7".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from engines import Pieces
from golden import VOCAB, WIDTH, Golden, golden

from lucidlm.generate import GenerationSettings, SamplingSettings
from lucidlm.trace.record import Recording, Subject, record
from lucidlm.trace.trace import Trace

DECODER = Pieces([f" w{id}".encode() for id in range(VOCAB)])
PROMPT, SOURCE = (5, 9, 33, 7, 12, 40), (8, 3, 51, 22, 6)
SAMPLING = SamplingSettings(
    temperature=0.8, top_k=20, top_p=0.9, min_p=0.01, seed=3, repetition_penalty=1.2
)


def subject(
    case: Golden, dtype: str = "float32", rows: Sequence[int] = (0,), lengths: Sequence[int] = (9,)
) -> Subject:
    """The golden input's first ids, as many rows as there are lengths."""
    cut = list(zip(rows, lengths, strict=True))
    sources = None
    if case.source is not None:
        sources = [case.source[row][: length + 1].tolist() for row, length in cut]
    return Subject(
        name="golden",
        engine=case.engine(dtype),
        config=case.checkpoint.config,
        decoder=DECODER,
        prompts=[case.ids[row][:length].tolist() for row, length in cut],
        sources=sources,
    )


def traces(
    case: Golden,
    *,
    dtype: str = "float32",
    rows: Sequence[int] = (0,),
    lengths: Sequence[int] = (9,),
    new: int = 4,
    sampling: SamplingSettings | None = None,
    on: Subject | None = None,
    keep: Sequence[str] = (),
    edits: Sequence[Any] = (),
    spill: bool = False,
    **options: Any,
) -> list[Trace]:
    """Run the golden engine under a recorder."""
    on = on or subject(case, dtype, rows, lengths)
    settings = None
    if case.checkpoint.config.kind != "encoder":
        chosen = sampling or SamplingSettings()
        settings = GenerationSettings(max_new_tokens=new, sampling=chosen, **options)
    return record(on, settings, Recording(keep=keep, edits=edits, spill=spill))


def trace(case: Golden, **options: Any) -> Trace:
    return traces(case, **options)[0]


def traced(
    family: str,
    shape: str,
    dtype: str = "float32",
    *,
    ids: Sequence[int] | None = None,
    edits: Sequence[Any] = (),
    new: int = 3,
    **sampling: Any,
) -> Trace:
    """All of the golden input (or `ids`) is read and, but by an encoder, `new` tokens written."""
    case = golden(family, shape)
    on = subject(case, dtype, lengths=(WIDTH,))
    if ids is not None:
        on = replace(on, prompts=[list(ids)])
    return trace(case, on=on, edits=edits, new=new, sampling=SamplingSettings(**sampling))


@cache
def plain(family: str, shape: str, dtype: str = "float32") -> Trace:
    """The same without edits, made once a process."""
    return traced(family, shape, dtype)


@cache
def sampled(family: str, shape: str, *keep: str) -> Trace:
    """`PROMPT` and `SOURCE` are read and, but by an encoder, three tokens drawn as `SAMPLING` has
    it.
    """
    case = golden(family, shape)
    on = subject(case)
    on = replace(on, prompts=[PROMPT], sources=None if on.sources is None else [SOURCE])
    return trace(case, on=on, new=3, sampling=SAMPLING, keep=keep)


def apart(one: Any, other: Any) -> float:
    """The largest difference between two arrays where both are numbers, as a share of the largest
    value; infinite cells must be the same ones.
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    assert a.shape == b.shape
    known = ~np.isnan(a) & ~np.isnan(b)
    assert (np.isinf(a) == np.isinf(b))[known].all()
    both = known & np.isfinite(a)
    if not both.any():
        return 0.0
    return float(np.abs(a[both] - b[both]).max() / max(np.abs(b[both]).max(), 1e-30))
