"""From logits to one chosen id, as a pipeline that can be looked at.

The stages, in the order of transformers' processors and warpers:

1. `logits`: what the engine gave, (vocab,) float32
2. `penalised`: repetition penalty on every id seen (Keskar et al. 2019: divide where positive,
   multiply where negative); minus frequency_penalty * count + presence_penalty for every id
   generated (the OpenAI API's formula); plus logit_bias; suppressed ids become -inf
3. `scaled`: divided by the temperature
4. `kept`: cut by top-k, then top-p among those left (Holtzman et al. 2020), then min-p among those
   left (Nguyen et al. 2024)
5. `probabilities`: softmax over what is kept, 0 elsewhere
6. `cdf`: their running sum in the order of ids
7. `draw`, `id`: a uniform number in [0, 1), and the first id whose cdf exceeds it

Temperature 0 is greedy: nothing is scaled, cut or drawn, and the id is the highest of `penalised`,
the lowest id on a tie. Top-k keeps exactly k, top-p the smallest set of the most probable ids whose
mass reaches p, min-p those at least min_p times as probable as the most probable; at least one id
is always kept, and on a tie the lower ids stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from lucidlm.engine import Floats
from lucidlm.errors import GenerationError
from lucidlm.generate.settings import SamplingSettings

CutReason = Literal["impossible", "suppressed", "forced", "top_k", "top_p", "min_p"]
KEPT, IMPOSSIBLE, SUPPRESSED, FORCED, TOP_K, TOP_P, MIN_P = range(7)
REASONS: tuple[CutReason | None, ...] = (
    None,
    "impossible",
    "suppressed",
    "forced",
    "top_k",
    "top_p",
    "min_p",
)

Doubles = NDArray[np.float64]
IdArray = NDArray[np.int64]
A = TypeVar("A", Floats, Doubles)


@dataclass
class History:
    """What penalties look at: every id so far, and how often each was generated."""

    seen: set[int] = field(default_factory=set)
    generated: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, prompt: Iterable[int], generated: Iterable[int] = ()) -> History:
        counts = Counter(generated)
        return cls(seen={*prompt, *counts}, generated=counts)

    def add(self, id: int) -> None:
        """`id` was generated."""
        self.seen.add(id)
        self.generated[id] += 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Sampled:
    """One choice and how it came about; every stage is (vocab,) and computed when first asked for.

    Two sets of probabilities: `plain_probabilities` is the softmax of the engine's own logits over
    the whole vocabulary, before every setting, and thus comparable between tools and runs;
    `probabilities` is what the choice was made from.
    """

    settings: SamplingSettings
    logits: Floats
    penalised: Floats
    draw: float | None  # None where nothing is drawn: greedy
    forced: int | None = None  # the only id allowed here

    @cached_property
    def id(self) -> int:
        """The chosen id."""
        if self.draw is None:
            return int(np.argmax(self.penalised))
        return int(self._kept_ids[np.searchsorted(self._kept_cdf, self.draw, side="right")])

    @cached_property
    def scaled(self) -> Floats:
        """penalised / temperature."""
        temperature = self.settings.temperature
        return self.penalised if temperature in (0, 1) else self.penalised / np.float32(temperature)

    @cached_property
    def reasons(self) -> NDArray[np.uint8]:
        """Index into `REASONS` for each id: what cut it, or 0 where it is kept."""
        return cut(self.scaled, self.settings, self.forced)

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """Which ids could have been chosen."""
        return cast(NDArray[np.bool_], self.reasons == KEPT)

    def cut_by(self, id: int) -> CutReason | None:
        """What took `id` out of the race; None if it was in it."""
        return REASONS[int(self.reasons[id])]

    @cached_property
    def probabilities(self) -> Doubles:
        """The final distribution, 0 for what was cut."""
        whole = np.zeros(self.logits.shape, np.float64)
        whole[self._kept_ids] = softmax(self.scaled[self._kept_ids])
        return whole

    @cached_property
    def cdf(self) -> Doubles:
        """Running sum of `probabilities` by id; ends in exactly 1."""
        whole = np.zeros(self.logits.shape, np.float64)
        whole[self._kept_ids] = self._kept_cdf
        return cast(Doubles, np.maximum.accumulate(whole))

    @cached_property
    def plain_probabilities(self) -> Doubles:
        """Softmax of the raw logits: temperature 1, no penalty, nothing cut."""
        return softmax(self.logits)

    @property
    def probability(self) -> float:
        """Plain probability of the chosen id."""
        return float(self.plain_probabilities[self.id])

    def alternatives(self, n: int) -> list[tuple[int, float]]:
        """The `n` most likely ids with their plain probabilities, best first, the chosen one among
        them if it is.
        """
        return [(int(id), float(self.plain_probabilities[id])) for id in largest(self.logits, n)]

    @cached_property
    def _kept_ids(self) -> IdArray:
        return np.flatnonzero(self.reasons == KEPT)

    @cached_property
    def _kept_cdf(self) -> Doubles:
        every = self._kept_ids.size == self.scaled.size
        weights = exponentials(self.scaled if every else self.scaled[self._kept_ids])
        running = weights.astype(np.float64)
        np.cumsum(running, out=running)
        running /= running[-1]
        return running


def sample(
    logits: Floats,
    settings: SamplingSettings,
    history: History,
    rng: np.random.Generator,
    forced: int | None = None,
) -> Sampled:
    """Choose one id by `settings`; `rng` gives one number per call unless greedy. `forced` allows
    this id only.

    Logits of -inf are tokens of probability zero. Raises GenerationError if they all are, or if a
    logit is NaN or +inf. The record refers to `logits`; it does not copy them.
    """
    penalised = penalise(logits, settings, history, forced)
    for values in (logits, penalised):
        check_highest(float(values[np.argmax(values)]))
    draw = None if settings.temperature == 0 else float(rng.random())
    return Sampled(settings=settings, logits=logits, penalised=penalised, draw=draw, forced=forced)


def row_seed(seed: int, row: int) -> int:
    """The seed of row `row` in a batch seeded with `seed`: a single run (row 0) with it draws the
    same numbers.
    """
    if row == 0:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(row,)).generate_state(1, np.uint64)[0])


def generator(seed: int | None, row: int = 0) -> np.random.Generator:
    """The random numbers of one row: PCG64 on `row_seed`; without a seed, fresh ones."""
    return np.random.Generator(np.random.PCG64(None if seed is None else row_seed(seed, row)))


def penalise(
    values: A, settings: SamplingSettings, history: History, forced: int | None = None
) -> A:
    """Penalties, then bias, then suppressed ids to -inf, on logits (V,) or, in beam search,
    log-probabilities (V,).

    Where an id is `forced`, every other becomes -inf and it 0, as in transformers. Returns `values`
    itself if nothing applies.
    """
    if forced is not None:
        only = np.full_like(values, -np.inf)
        only[forced] = 0
        return only
    if not (settings.penalises_history or settings.logit_bias or settings.suppressed):
        return values
    changed = values.copy()
    if settings.repetition_penalty != 1:
        seen = np.fromiter(history.seen, np.int64)
        old, penalty = changed[seen], settings.repetition_penalty
        changed[seen] = np.where(old < 0, old * penalty, old / penalty)
    if history.generated and (settings.frequency_penalty or settings.presence_penalty):
        ids = np.fromiter(history.generated, np.int64)
        counts = np.fromiter(history.generated.values(), values.dtype)
        changed[ids] -= settings.frequency_penalty * counts + settings.presence_penalty
    ids, bias = settings.bias_arrays
    changed[ids] += bias
    changed[settings.suppressed_array] = -np.inf
    return changed


def cut(scaled: Floats, settings: SamplingSettings, forced: int | None = None) -> NDArray[np.uint8]:
    """What cuts each id, as an index into `REASONS`, (vocab,). Values of -inf are out already."""
    out = scaled == -np.inf
    if forced is not None:
        return np.where(out, np.uint8(FORCED), np.uint8(KEPT))
    if settings.temperature == 0:
        reasons = np.zeros(scaled.shape, np.uint8)
    elif 0 < settings.top_k < scaled.size:
        reasons = np.full(scaled.shape, TOP_K, np.uint8)
        left = np.sort(largest(scaled, settings.top_k))
        reasons[left] = _cut_by_mass(scaled[left], settings)
    else:
        reasons = _cut_by_mass(scaled, settings)
    reasons[out] = IMPOSSIBLE
    reasons[settings.suppressed_array] = SUPPRESSED
    return reasons


def _cut_by_mass(values: Floats, settings: SamplingSettings) -> NDArray[np.uint8]:
    """Top-p and min-p among `values`, as an index into `REASONS` for each."""
    reasons = np.zeros(values.shape, np.uint8)
    if settings.top_p == 1 and settings.min_p == 0:
        return reasons
    weights = exponentials(values)
    if settings.min_p > 0:
        reasons[weights < settings.min_p] = MIN_P  # the most probable, never cut, weighs 1
    if settings.top_p < 1:
        reasons[~nucleus(weights, settings.top_p)] = TOP_P
    return reasons


def nucleus(weights: Floats, p: float) -> NDArray[np.bool_]:
    """The smallest set of the largest `weights` that holds the share `p`, as a mask.

    The weights may have any scale whose largest is 1.
    """
    target = p * float(weights.sum(dtype=np.float64))
    head = weights[np.flatnonzero(weights > 1e-4)]  # nearly always enough, and few to sort
    if head.sum(dtype=np.float64) < target:
        head = weights
    ordered = np.sort(head)[::-1]
    mass = ordered.astype(np.float64)
    np.cumsum(mass, out=mass)
    size = min(int(np.searchsorted(mass, target)) + 1, mass.size)  # rounding may miss the target
    return _largest(weights, ordered[size - 1], size)


def largest(values: NDArray[Any], n: int) -> IdArray:
    """Indices of the `n` largest values (all, if there are fewer), best first, the lower index
    first on a tie.
    """
    n = min(n, values.size)
    if n <= 0:
        return np.zeros(0, np.int64)
    least = np.partition(values, values.size - n)[values.size - n]
    ids = np.flatnonzero(_largest(values, least, n))
    return ids[np.argsort(-values[ids], kind="stable")]


def exponentials(values: Floats) -> Floats:
    """exp(x - max): weights in proportion to the probabilities, the largest 1."""
    weights = values - values.max()
    return cast(Floats, np.exp(weights, out=weights))


def softmax(values: Floats) -> Doubles:
    """exp(x - max) / sum, summed in float64. At least one value must be finite."""
    weights = exponentials(values).astype(np.float64)
    weights /= weights.sum()
    return weights


def check_highest(value: float) -> None:
    """Refuse logits whose highest is NaN, +inf or -inf: there is no distribution to choose from."""
    if value == -np.inf:
        raise GenerationError("generate.all_impossible")
    if not np.isfinite(value):
        raise GenerationError("generate.not_finite", value=value)


def _largest(values: NDArray[Any], least: Any, n: int) -> NDArray[np.bool_]:
    """The `n` largest as a mask, given the least of them; on a tie the lower indices."""
    mask: NDArray[np.bool_] = values >= least
    surplus = int(np.count_nonzero(mask)) - n
    if surplus:
        tied = np.flatnonzero(values == least)
        mask[tied[tied.size - surplus :]] = False
    return mask
