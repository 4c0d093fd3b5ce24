"""One vector for a text, from an encoder's vector for each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lucidlm.engine import Engine, Floats, ForwardContext, Ids, Tracer
from lucidlm.generate.prompt import check_source

Pooling = Literal["mean", "first", "last"]


def embed(
    engine: Engine,
    ids: Sequence[Ids],
    pooling: Pooling = "mean",
    *,
    normalise: bool = True,
    segments: Sequence[Ids] | None = None,
    tracer: Tracer | None = None,
) -> Floats:
    """Texts as vectors (rows, dim): the encoder's output, pooled. Raises GenerationError for rows
    that do not fit it.
    """
    rows = [check_source(engine, row) for row in ids]
    vectors = engine.encode(rows, ForwardContext(segments=segments, tracer=tracer))
    return pool(vectors, [len(row) for row in rows], pooling, normalise=normalise)


def pool(
    vectors: Floats, lengths: Sequence[int], pooling: Pooling = "mean", *, normalise: bool = True
) -> Floats:
    """(rows, longest, dim) to (rows, dim), what lies behind a row's `lengths` left out.

    "mean" over the row's tokens (Reimers & Gurevych 2019), its "first" vector (BERT's [CLS]) or its
    "last". `normalise` scales each to Euclidean length 1, so that dot products are cosines; a zero
    vector stays zero.
    """
    rows = range(len(lengths))
    if pooling == "mean":
        pooled = np.stack([vectors[r, : lengths[r]].mean(axis=0, dtype=np.float64) for r in rows])
    else:
        pooled = np.stack([vectors[r, 0 if pooling == "first" else lengths[r] - 1] for r in rows])
    if normalise:
        norms = np.linalg.norm(pooled.astype(np.float64), axis=1, keepdims=True)
        pooled = pooled / np.maximum(norms, np.finfo(np.float32).tiny)
    return pooled.astype(np.float32)
