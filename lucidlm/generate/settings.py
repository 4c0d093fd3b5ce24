"""What a caller may set about generation, checked on construction."""

from __future__ import annotations

import numbers
import operator
import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lucidlm.errors import GenerationError

MIN_TEMPERATURE = 1e-6
MAX_TEMPERATURE = 1000.0


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How logits become one id; the defaults take the most likely one. `sampling` states the order
    of the stages.

    `seed` None draws fresh randomness; `suppressed` ids are never chosen (a padding token, ids
    without text).
    """

    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 is off
    top_p: float = 1.0  # 1 is off
    min_p: float = 0.0  # 0 is off
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    suppressed: frozenset[int] = frozenset()
    seed: int | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not (
            self.temperature == 0 or MIN_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE
        ):
            raise GenerationError(
                "generate.temperature",
                value=reprlib.repr(self.temperature),
                low=MIN_TEMPERATURE,
                high=MAX_TEMPERATURE,
            )
        require_whole("top_k", self.top_k, 0)
        _require_number("top_p", self.top_p, 0, 1, low_open=True)
        _require_number("min_p", self.min_p, 0, 1)
        _require_number("repetition_penalty", self.repetition_penalty, 0.01, 100)
        _require_number("frequency_penalty", self.frequency_penalty, -100, 100)
        _require_number("presence_penalty", self.presence_penalty, -100, 100)
        if not isinstance(self.logit_bias, Mapping):
            raise GenerationError("generate.not_a_mapping", value=reprlib.repr(self.logit_bias))
        _require_ids("logit_bias", self.logit_bias)
        for id, bias in self.logit_bias.items():
            _require_number(f"logit_bias[{id}]", bias, -100, 100)
        _require_ids("suppressed", self.suppressed)
        if self.seed is not None:
            require_whole("seed", self.seed, 0)

    @cached_property
    def bias_arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """`logit_bias` as ids and values."""
        return (
            np.fromiter(self.logit_bias, dtype=np.int64),
            np.fromiter(self.logit_bias.values(), dtype=np.float32),
        )

    @cached_property
    def suppressed_array(self) -> NDArray[np.int64]:
        """`suppressed` in ascending order."""
        return np.array(sorted(self.suppressed), dtype=np.int64)

    @property
    def penalises_history(self) -> bool:
        """Whether what was said before changes the logits."""
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1, 0, 0)


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How long to generate, where to stop, and how to search.

    `stop` strings end the text and are not part of it; `end` ids end it too. `forced_bos` is the
    first generated id whatever the logits (multilingual translation). `prefill_chunk` reads the
    prompt in pieces of at most so many tokens. With `beams` above 1, hypotheses rank by sum of
    log-probabilities / length ** `length_penalty`, and the search ends (`early_stopping`): True as
    soon as `beams` of them are complete; False when the best open one at its present length is no
    better than the worst complete one; "never" when it could not become better at any permitted
    length.
    """

    max_new_tokens: int = 128
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    stop: Sequence[str] = ()
    end: frozenset[int] = frozenset()
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    forced_bos: int | None = None
    prefill_chunk: int | None = None

    def __post_init__(self) -> None:
        require_whole("max_new_tokens", self.max_new_tokens, 1)
        require_whole("beams", self.beams, 1)
        if self.prefill_chunk is not None:
            require_whole("prefill_chunk", self.prefill_chunk, 1)
        _require_number("length_penalty", self.length_penalty, -10, 10)
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise GenerationError(
                "generate.early_stopping", value=reprlib.repr(self.early_stopping)
            )
        _require_ids("end", self.end)
        if self.forced_bos is not None:
            _require_ids("forced_bos", (self.forced_bos,))
        texts = isinstance(self.stop, Collection) and not isinstance(self.stop, str)
        if not texts or not all(isinstance(s, str) and s for s in self.stop):
            raise GenerationError("generate.stop", value=reprlib.repr(self.stop))
        if self.beams > 1 and self.sampling.temperature > 0:
            raise GenerationError(
                "generate.beams_sample", beams=self.beams, temperature=self.sampling.temperature
            )

    @property
    def named_ids(self) -> dict[str, Iterable[int]]:
        """Ids by the setting that names them, where a model without such an id cannot obey."""
        forced = () if self.forced_bos is None else (self.forced_bos,)
        return {
            "logit_bias": self.sampling.logit_bias,
            "suppressed": self.sampling.suppressed,
            "forced_bos": forced,
        }


def require_whole(name: str, value: object, low: int) -> None:
    """`value` must be a whole number of at least `low`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < low:
        raise GenerationError("generate.not_whole", field=name, value=reprlib.repr(value), low=low)


def _require_number(
    name: str, value: object, low: float, high: float, *, low_open: bool = False
) -> None:
    inside = _is_number(value) and low <= value <= high  # type: ignore[operator]
    if not inside or (low_open and value == low):
        interval = f"{'(' if low_open else '['}{low}, {high}]"
        raise GenerationError(
            "generate.not_in_range", field=name, value=reprlib.repr(value), interval=interval
        )


def _require_ids(name: str, ids: Iterable[object]) -> None:
    try:
        good = not isinstance(ids, str) and all(operator.index(id) >= 0 for id in ids)  # type: ignore[arg-type]
    except TypeError:
        good = False
    if not good:
        raise GenerationError("generate.not_ids", field=name, value=reprlib.repr(ids))


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
