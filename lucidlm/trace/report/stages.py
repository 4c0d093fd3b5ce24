"""The six stages of each word of a run: input vector, attention, add & norm, feed-forward, output
vector, and the choice from the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lucidlm.errors import TraceError
from lucidlm.generate.sampling import REASONS, Sampled, largest, softmax
from lucidlm.reference.equations import wide
from lucidlm.trace import predictions
from lucidlm.trace.lens import lens
from lucidlm.trace.numbers import short
from lucidlm.trace.operations import Array
from lucidlm.trace.report.vectors import row, vector
from lucidlm.trace.run import Run
from lucidlm.trace.stacks import last_vector, output_stack

WORDS = 48  # whose stages are on the page
LINKS = 6  # positions that attention looked at
UNITS = 4  # of a feed-forward
CANDIDATES = 12
TOP = 3  # words of each row of the lens


def words(run: Run) -> dict[str, Any]:
    """The stages of the first `WORDS` chosen tokens; of an encoder those of its positions."""
    if run.chosen:
        asks = [position - 1 for position in run.chosen]
    else:
        asks = list(range(run.length))
    shown = asks[:WORDS]
    found: list[dict[str, Any]] = [
        {
            "from": position,
            "position": predictions.predicts(run, position),
            "input": _input(run, position),
            "layers": [],
            "output": None,
            "choice": None,
            "lens": [],
        }
        for position in shown
    ]
    if run.config is not None:
        stack = output_stack(run.config)
        last = last_vector(run.config, stack)
        for layer in _layers(run, stack):  # layer by layer: each may be run again to be read
            for word, position in zip(found, shown, strict=True):
                word["layers"].append(_layer(run, layer, position))
        for word, position in zip(found, shown, strict=True):
            word["output"] = vector(run, last, position)
    _add_lens(run, found, shown)
    _add_choices(run, found, shown)
    return {"every": len(asks), "shown": found}


def _layers(run: Run, stack: str) -> Iterator[str]:
    start = f"{stack}layers."
    for address in run.catalogue:
        if address.startswith(start) and address.endswith(".residual_in"):
            yield address.removesuffix(".residual_in")


def _input(run: Run, position: int) -> list[dict[str, Any]]:
    """What the embedding adds up, and what enters the first layer."""
    if run.config is None:
        return []
    at = output_stack(run.config)
    summed = run.catalogue[f"{at}embedding.sum"].operation.inputs
    addresses = (*summed, f"{at}layers.0.residual_in")
    found = [vector(run, address, position) for address in addresses]
    return [one for one in found if one is not None]


def _layer(run: Run, at: str, position: int) -> dict[str, Any]:
    """One layer at one position; what cannot be read is None."""
    mixing = f"{at}.feedforward.output"
    inner = run.catalogue[mixing].operation.inputs[0]
    units = row(run, inner, position)
    return {
        "before": vector(run, f"{at}.residual_in", position),
        "attention": _attention(run, at, "attention", position),
        "cross": _attention(run, at, "cross_attention", position),
        "read": vector(run, run.catalogue[f"{at}.feedforward.up"].operation.inputs[0], position),
        "units": None if units is None else _units(inner, units),
        "wrote": vector(run, _written(run, at, "feedforward"), position),
        "after": vector(run, f"{at}.residual_out", position),
    }


def _written(run: Run, at: str, sublayer: str) -> str:
    """The address of what is added to the residual stream."""
    return run.catalogue[f"{at}.{sublayer}_norm.added"].operation.inputs[1]


def _attention(run: Run, at: str, name: str, position: int) -> dict[str, Any] | None:
    """The positions looked at most, each with the head that gives it the highest weight."""
    address = f"{at}.{name}.pattern"
    if address not in run.catalogue:
        return None
    links = []
    try:
        weights = np.nan_to_num(wide(run.read(address)[:, position]))  # (H, S)
    except TraceError:
        weights = np.zeros((1, 0))
    best = weights.max(0)
    for key in largest(best, LINKS):
        if best[key] > 0:
            head = int(weights[:, key].argmax())
            links.append({"key": int(key), "head": head, "weight": short(float(best[key]))})
    return {
        "address": address,
        "links": links,
        "wrote": vector(run, _written(run, at, name), position),
        "sum": vector(run, f"{at}.{name}_norm.added", position),
    }


def _units(address: str, values: Array) -> dict[str, Any]:
    strongest = largest(np.abs(values), UNITS)
    return {
        "address": address,
        "size": values.size,
        "strongest": [{"at": int(i), "value": short(float(values[i]))} for i in strongest],
    }


def _add_lens(run: Run, found: Sequence[dict[str, Any]], positions: Sequence[int]) -> None:
    """The logit lens of each word; none where the trace cannot be replayed."""
    try:
        seen = lens(run, positions=positions, top=TOP)
    except TraceError:
        return
    for number, word in enumerate(found):
        for line in seen.rows:
            reading = line.readings[number]
            word["lens"].append(
                {
                    "layer": line.layer,
                    "place": line.place,
                    "top": [[one.label, short(one.probability)] for one in reading.top],
                    "rank": reading.rank,
                    "probability": short(reading.probability),
                    "entropy": short(reading.entropy),
                }
            )


def _add_choices(run: Run, found: Sequence[dict[str, Any]], positions: Sequence[int]) -> None:
    if run.chosen:
        for word in found:
            word["choice"] = _choice(run, word["position"])
        return
    try:
        for word, logits in zip(found, predictions.logits(run, positions), strict=True):
            word["choice"] = _likeliest(run, logits)
    except TraceError:  # vectors only
        return


def _likeliest(run: Run, logits: Array) -> dict[str, Any]:
    """What a model that fills in would put there; nothing is chosen."""
    shares = softmax(logits)
    listed = [
        {
            "id": int(id),
            "label": run.label(int(id)),
            "logit": short(float(logits[id])),
            "plain": short(float(shares[id])),
        }
        for id in largest(logits, CANDIDATES)
    ]
    return {"mode": "filled", "candidates": listed, **_others(logits.size, listed)}


def _choice(run: Run, position: int) -> dict[str, Any]:
    """How the token at `position` was chosen: candidates, what was cut, and the random number."""
    sampled, chosen = run.sampled(position), run.tokens[position].id
    ids = [int(id) for id in largest(sampled.logits, CANDIDATES)]
    if chosen not in ids:
        ids.append(chosen)
    listed = [
        {
            "id": id,
            "label": run.label(id),
            "logit": short(float(sampled.logits[id])),
            "plain": short(float(sampled.plain_probabilities[id])),
            "scaled": short(float(sampled.scaled[id])),
            "final": short(float(sampled.probabilities[id])),
            "cut": sampled.cut_by(id),
        }
        for id in ids
    ]
    high = float(sampled.cdf[chosen])
    return {
        "mode": _mode(run, sampled, chosen),
        "id": chosen,
        "candidates": listed,
        **_others(sampled.logits.size, listed),
        "cuts": _cuts(sampled),
        "kept": int(sampled.kept.sum()),
        "changed": int((sampled.penalised != sampled.logits).sum()),
        "temperature": sampled.settings.temperature,
        "draw": short(sampled.draw),
        "low": short(high - float(sampled.probabilities[chosen])),
        "high": short(high),
    }


def _mode(run: Run, sampled: Sampled, chosen: int) -> str:
    if sampled.forced is not None:
        return "forced"
    if run.header.settings is not None and run.header.settings.beams > 1:
        return "beam"
    return "greedy" if sampled.draw is None else "drawn"


def _others(size: int, listed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    left = 1.0 - sum(float(one["plain"]) for one in listed)
    return {"others": size - len(listed), "others_plain": short(max(0.0, left))}


def _cuts(sampled: Sampled) -> list[list[Any]]:
    """How many candidates each reason took out of the race."""
    counts = np.bincount(sampled.reasons, minlength=len(REASONS))
    return [
        [reason, int(count)]
        for reason, count in zip(REASONS, counts, strict=True)
        if reason is not None and count
    ]
