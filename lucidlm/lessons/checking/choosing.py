"""From logits to one id, right or with mistakes: see `attention`."""

from __future__ import annotations

import numpy as np

from lucidlm.generate.sampling import Sampled
from lucidlm.generate.settings import SamplingSettings
from lucidlm.lessons.checking.attention import NONE, Array, Slips, softmax
from lucidlm.reference.equations import Doubles, wide

GREEDY = ("least", "last_tie", "absolute")
SAMPLE = (
    "temperature_multiplied",
    "temperature_ignored",
    "top_k_ignored",
    "top_p_ignored",
    "not_renormalised",
    "not_renormalised_end",
    "cut_to_zero",
    "top_p_short",
    "top_p_empty",
    "top_p_more",
    "top_p_first",
    "top_p_unscaled",
    "ties_all",
    "ties_high",
    "cdf_reached",
    "cdf_sorted",
    "draw_ignored",
)


def greedy(logits: Array, *, slips: Slips = NONE) -> int:
    """The id of the largest logit, the lowest on a tie."""
    if "least" in slips:
        return int(np.argmin(logits))
    if "absolute" in slips:
        return int(np.argmax(np.abs(logits)))
    if "last_tie" in slips:
        return len(logits) - 1 - int(np.argmax(logits[::-1]))
    return int(np.argmax(logits))


def sample(
    logits: Array, temperature: float, top_k: int, top_p: float, u: float, *, slips: Slips = NONE
) -> int:
    """The first id whose running sum of probabilities exceeds u, after temperature, top-k and
    top-p; with temperature 0 the greedy one.
    """
    if temperature == 0:
        return greedy(logits)
    if not slips:
        settings = SamplingSettings(temperature=temperature, top_k=top_k, top_p=top_p)
        return Sampled(settings=settings, logits=logits, penalised=logits, draw=u).id
    return _sample(logits, temperature, top_k, top_p, u, slips)


def _sample(
    logits: Array, temperature: float, top_k: int, top_p: float, u: float, slips: Slips
) -> int:
    """The same step by step, with the places where one goes wrong."""
    scaled = wide(logits)
    if "temperature_multiplied" in slips:
        scaled = scaled * temperature
    elif "temperature_ignored" not in slips:
        scaled = scaled / temperature
    by_size = np.argsort(-scaled, kind="stable")
    if "ties_high" in slips:
        by_size = len(scaled) - 1 - np.argsort(-scaled[::-1], kind="stable")
    kept = np.ones(len(scaled), bool)
    if 0 < top_k < len(scaled) and "top_k_ignored" not in slips:
        kept[by_size[top_k:]] = False
        if "ties_all" in slips:
            kept = scaled >= scaled[by_size[top_k - 1]]
    if top_p < 1 and "top_p_ignored" not in slips:
        basis = wide(logits) if "top_p_unscaled" in slips else scaled
        candidates = np.ones_like(kept) if "top_p_first" in slips else kept
        kept = kept & _nucleus(basis, candidates, by_size, top_p, slips)
    if {"not_renormalised", "not_renormalised_end"} & {*slips}:
        probabilities = np.where(kept, softmax(scaled), 0.0)
    else:
        cut = 0.0 if "cut_to_zero" in slips else -np.inf
        probabilities = softmax(np.where(kept, scaled, cut), slips=("hidden_row",))
    return _draw(probabilities, by_size, u, slips)


def _nucleus(scaled: Doubles, kept: Array, by_size: Array, top_p: float, slips: Slips) -> Array:
    """The largest of `kept` until their probabilities sum to top_p, as a mask."""
    ordered = softmax(np.where(kept, scaled, -np.inf))[by_size]
    mass = np.cumsum(ordered)
    if {"top_p_short", "top_p_empty"} & {*slips}:
        inside = mass <= top_p
        inside[0] |= "top_p_short" in slips
    else:
        before = mass - ordered
        inside = before <= top_p if "top_p_more" in slips else before < top_p
    chosen = np.zeros_like(kept)
    chosen[by_size[inside]] = True
    return chosen


def _draw(probabilities: Doubles, by_size: Array, u: float, slips: Slips) -> int:
    if "draw_ignored" in slips:
        return int(np.argmax(probabilities))
    in_order = "cdf_sorted" not in slips
    cdf = np.cumsum(probabilities if in_order else probabilities[by_size])
    beyond = cdf >= u if "cdf_reached" in slips else cdf > u
    at = int(np.argmax(beyond))
    if "not_renormalised_end" in slips and not beyond.any():
        return len(cdf)
    return at if in_order else int(by_size[at])
