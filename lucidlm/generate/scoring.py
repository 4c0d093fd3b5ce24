"""How well a model predicts a text: negative log-likelihood token by token, and perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lucidlm.engine import Engine, Floats, ForwardContext, Ids
from lucidlm.errors import GenerationError
from lucidlm.generate.prompt import check_ids
from lucidlm.generate.sampling import Doubles
from lucidlm.generate.settings import require_whole

DEFAULT_WINDOW = 2048
LOGITS_AT_ONCE = 2**24  # values held of a chunk: 64 MB as float32


@dataclass(frozen=True, eq=False, kw_only=True)
class Score:
    """A text's score. The first token has nothing before it and is not scored."""

    # (tokens - 1,): -ln p(token | those before it in its window); inf where it has probability zero
    nll: Doubles
    window: int
    stride: int
    total_bytes: int | None

    @property
    def perplexity(self) -> float:
        """exp of the mean nll; inf if any token has probability zero."""
        mean = float(self.nll.mean())
        return math.exp(mean) if mean < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Sum of nll in bits by the bytes of the text: comparable between tokenizers. None without
        `total_bytes`.
        """
        return (
            None if not self.total_bytes else float(self.nll.sum()) / math.log(2) / self.total_bytes
        )

    @property
    def impossible(self) -> NDArray[np.intp]:
        """Indices into the ids of the tokens that got probability zero (an n-gram model without
        smoothing).
        """
        return np.flatnonzero(np.isposinf(self.nll)) + 1


def score(
    engine: Engine,
    ids: Ids,
    *,
    window: int | None = None,
    stride: int | None = None,
    total_bytes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Score:
    """Score `ids`, at least two of them, however many there are.

    Windows of `window` tokens (by default the context, at most 2048) begin `stride` tokens (by
    default half) apart; each scores only what the one before could not, so that every token but the
    first `window` has at least window - stride + 1 tokens before it. Logits exist for a chunk of
    positions at a time, 64 MB of them. `progress` is told (tokens scored, tokens to score).
    """
    row = check_ids(engine, ids)
    if len(row) < 2:
        raise GenerationError("generate.too_short_to_score")
    window = min(engine.max_positions, DEFAULT_WINDOW) if window is None else window
    require_whole("window", window, 1)
    if window > engine.max_positions:
        raise GenerationError("generate.window_too_long", window=window, limit=engine.max_positions)
    stride = max(1, window // 2) if stride is None else stride
    require_whole("stride", stride, 1)
    if stride > window:
        raise GenerationError("generate.stride_too_long", stride=stride, window=window)

    nll = np.empty(len(row) - 1)
    begin = done = (
        0  # done: tokens scored; nll[i] belongs to row[i + 1] and comes of the logits at position i
    )
    while done < nll.size:
        end = min(begin + window, nll.size)
        nll[done:end] = _window(engine, row[begin : end + 1], done - begin)
        done = end
        begin += stride
        if progress is not None:
            progress(done, nll.size)
    return Score(nll=nll, window=window, stride=stride, total_bytes=total_bytes)


def _window(engine: Engine, row: list[int], known: int) -> Doubles:
    """nll of row[known + 1:], each given all of the row before it."""
    ctx = ForwardContext(cache=engine.cache(1))
    scored = ForwardContext(cache=ctx.cache, every_position=True)
    chunk = max(1, LOGITS_AT_ONCE // engine.vocab_size)
    for at in range(0, known, chunk):
        engine.step([row[at : min(at + chunk, known)]], ctx)
    parts = []
    for at in range(known, len(row) - 1, chunk):
        end = min(at + chunk, len(row) - 1)
        logits = engine.step([row[at:end]], scored)[0]
        parts.append(_nll(logits, row[at + 1 : end + 1]))
    return np.concatenate(parts)


def _nll(logits: Floats, targets: list[int]) -> Doubles:
    """-log softmax of each target, (T, vocab) and T ids to (T,), summed in float64."""
    highest = logits.max(axis=1)
    if np.isnan(highest).any() or np.isposinf(highest).any():
        raise GenerationError("generate.not_finite", value=float(highest.max()))
    highest = np.where(np.isneginf(highest), 0, highest)  # where nothing can follow, nll is inf
    sums = np.exp(logits - highest[:, None]).sum(axis=1, dtype=np.float64)
    chosen = logits[np.arange(len(targets)), targets].astype(np.float64)
    nll: Doubles = np.where(
        np.isneginf(chosen), np.inf, np.log(np.maximum(sums, 1)) - (chosen - highest)
    )
    return nll
