"""What happened to one candidate in each stage of sampling.

In the numbers that the sampler itself had (float32 up to the running sums), so that the arithmetic
comes to the sampler's own decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lucidlm.generate.sampling import Sampled, row_seed
from lucidlm.reference import equations
from lucidlm.trace.numbers import digits, operand
from lucidlm.trace.operations.attention import softmax_cell
from lucidlm.trace.operations.base import Terms, Worked, cell
from lucidlm.trace.operations.sampling import Choice, find_row
from lucidlm.trace.operations.working import equation, terms_of

Note = tuple[str, dict[str, object]]
Step = tuple[str, float, str]


def _cell_logits(choice: Choice, head: str | None) -> Worked:
    value = float(choice.sampled.logits[choice.word])
    place = ("position", choice.position - 1), ("word", choice.word)
    return _read(value, 1.0, cell(head, *place) if head else "")


def _cell_penalised(choice: Choice, head: str | None) -> Worked:
    sampled, settings, word = choice.sampled, choice.sampled.settings, choice.word
    logit, source = float(sampled.logits[word]), choice.at("logits")
    if sampled.forced is not None:
        value = 0.0 if word == sampled.forced else -np.inf
        key = "explain.forced" if word == sampled.forced else "explain.cut_forced"
        return _fixed(value, (key, {"word": word, "forced": sampled.forced}))
    if word in settings.suppressed:
        return _fixed(-np.inf, ("explain.cut_suppressed", {"word": word}))
    penalty = settings.repetition_penalty if word in choice.seen else 1.0
    factor = penalty if logit < 0 else 1 / penalty
    count = choice.said[word]
    parts = [("logits", logit, factor, source)]
    if count:
        parts.append(("frequency", -settings.frequency_penalty, float(count), ""))
        parts.append(("presence", -settings.presence_penalty, 1.0, ""))
    parts.append(("bias", float(settings.logit_bias.get(word, 0.0)), 1.0, ""))
    parts = [part for n, part in enumerate(parts) if n == 0 or part[1]]
    read, by = np.array([part[1] for part in parts]), np.array([part[2] for part in parts])
    total = float((read * by).sum())
    steps = [(name, value * times, at) for name, value, times, at in parts[1:]]
    if factor != 1:
        steps.insert(0, ("repetition", factor, ""))
    found: dict[str, object] = {
        "logit": logit,
        "factor": factor,
        "repetition": settings.repetition_penalty,
        "count": count,
        "lowered": -sum(value for name, value, _ in steps if name in ("frequency", "presence")),
        "bias": float(settings.logit_bias.get(word, 0.0)),
    }
    names = {"presence": "frequency"}
    changed = list(dict.fromkeys(names.get(name, name) for name, _, _ in steps))
    kind = "several" if len(changed) > 1 else changed[0] if changed else "none"
    terms = terms_of(read, by, addresses=lambda i: (parts[i][3], ""))
    return Worked(
        terms=terms,
        total=total,
        expression=equation(total, terms),
        program="value = (read * factors).sum()",
        arrays={"read": read, "factors": by},
        steps=tuple(steps),
        note=(f"explain.penalty_{kind}", found),
    )


def _cell_scaled(choice: Choice, head: str | None) -> Worked:
    value, source = float(choice.sampled.penalised[choice.word]), choice.at("penalised")
    temperature = choice.sampled.settings.temperature
    if temperature == 0:
        return _read(value, 1.0, source, ("explain.unscaled", {}))
    return _read(value, temperature, source)


@dataclass(frozen=True)
class _Standing:
    """A candidate among the others, in the sampler's numbers."""

    rank: int  # by value, 1 the highest
    mass: float | None  # share of the more probable ones among what top-k leaves
    ratio: float  # as probable as the most probable one

    @classmethod
    def of(cls, sampled: Sampled, word: int) -> _Standing:
        scaled, top_k = sampled.scaled, sampled.settings.top_k or sampled.scaled.size
        weights = np.exp(scaled - scaled.max())
        order = np.argsort(-scaled, kind="stable")
        left = np.sort(order[:top_k])
        ranked = left[np.argsort(-weights[left], kind="stable")]
        place = np.flatnonzero(ranked == word)
        mass = None
        if place.size:
            running = np.concatenate(([0.0], np.cumsum(weights[ranked], dtype=np.float64)))
            mass = float(running[place[0]] / running[-1])
        rank = int(np.flatnonzero(order == word)[0]) + 1
        return cls(rank, mass, float(weights[word]))


KEPT_PROGRAM = """\
weights = np.exp(scaled - scaled.max())
left = np.sort(np.argsort(-scaled, kind="stable")[:top_k])
ranked = left[np.argsort(-weights[left], kind="stable")]
mass = np.concatenate(([0.0], np.cumsum(weights[ranked], dtype=np.float64)))
inside = ranked[mass[:-1] < top_p * weights[left].sum(dtype=np.float64)]
value = float(word in inside and weights[word] >= min_p and scaled[word] > -np.inf)"""


def _cell_kept(choice: Choice, head: str | None) -> Worked:
    sampled, settings = choice.sampled, choice.sampled.settings
    scaled = float(sampled.scaled[choice.word])
    steps: list[Step] = [("scaled", scaled, choice.at("scaled"))]
    note, total = _verdict(choice), float(sampled.kept[choice.word])
    if settings.temperature == 0 or sampled.forced is not None:
        return _fixed(total, note, tuple(steps))
    standing = _Standing.of(sampled, choice.word)
    passes = np.array([1.0, 1.0, 1.0])
    steps.append(("rank", float(standing.rank), ""))
    if settings.top_k:
        steps.append(("top_k", float(settings.top_k), ""))
        passes[0] = standing.mass is not None
    if settings.top_p < 1 and standing.mass is not None:
        steps += [("mass_before", standing.mass, ""), ("top_p", settings.top_p, "")]
        passes[1] = sampled.cut_by(choice.word) != "top_p"
    if settings.min_p > 0:
        steps += [("ratio", standing.ratio, ""), ("min_p", settings.min_p, "")]
        passes[2] = standing.ratio >= np.float32(settings.min_p)
    if sampled.cut_by(choice.word) in ("impossible", "suppressed"):
        passes[:] = 0.0
    return Worked(
        terms=terms_of(*passes, addresses=lambda i: ("", "", "")),
        total=total,
        expression=f"{digits(total)} = {' * '.join(map(operand, passes))}",
        program=KEPT_PROGRAM,
        arrays={
            "scaled": sampled.scaled,
            "word": choice.word,
            "top_k": settings.top_k or sampled.scaled.size,
            "top_p": settings.top_p if settings.top_p < 1 else np.inf,
            "min_p": np.float32(settings.min_p),
        },
        steps=tuple(steps),
        note=note,
    )


def _verdict(choice: Choice) -> Note:
    """Why the candidate was cut, or is still there."""
    sampled, settings, word = choice.sampled, choice.sampled.settings, choice.word
    reason = sampled.cut_by(word)
    if reason is None and sampled.forced is not None:
        return "explain.forced", {"word": word, "forced": word}
    if reason is None and settings.temperature == 0:
        return "explain.kept_greedy", {"word": word}
    if reason in ("impossible", "suppressed", "forced"):
        return f"explain.cut_{reason}", {"word": word, "forced": sampled.forced}
    standing = _Standing.of(sampled, word)
    found: dict[str, object] = {
        "word": word,
        "rank": standing.rank,
        "mass": standing.mass,
        "ratio": standing.ratio,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "min_p": settings.min_p,
    }
    return f"explain.cut_{reason}" if reason else "explain.kept", found


def _cell_probabilities(choice: Choice, head: str | None) -> Worked:
    sampled, word = choice.sampled, choice.word
    if not sampled.kept[word]:
        return _fixed(0.0, _verdict(choice))
    kept: NDArray[np.int64] = np.flatnonzero(sampled.kept)
    scaled = equations.wide(sampled.scaled)
    return softmax_cell("scaled", scaled, kept, word, lambda id: choice.at("scaled", id))


def _cell_cdf(choice: Choice, head: str | None) -> Worked:
    before = choice.sampled.probabilities[: choice.word + 1]
    ids: NDArray[np.int64] = np.flatnonzero(before)
    shares = before[ids]
    total = float(shares.sum())
    terms = terms_of(shares, addresses=lambda i: (choice.at("probabilities", int(ids[i])),))
    return Worked(
        terms=terms,
        total=total,
        expression=equation(total, terms) if ids.size else "0",
        program="value = probabilities.sum()",
        arrays={"probabilities": shares},
    )


def _cell_draw(choice: Choice, head: str | None) -> Worked:
    draw, seed = choice.sampled.draw, choice.sampled.settings.seed
    if draw is None:
        return _fixed(np.nan, ("explain.no_draw", {}))
    count = choice.position - choice.start + 1
    row = None if seed is None else find_row(seed, count, draw)
    if seed is None or row is None:
        return _fixed(draw, ("explain.draw", {"draw": draw}))
    program = (
        f"numbers = np.random.Generator(np.random.PCG64({row_seed(seed, row)}))\n"
        f"value = numbers.random({count})[-1]"
    )
    return Worked(
        terms=_constant(draw),
        total=draw,
        expression=digits(draw),
        program=program,
        arrays={},
        note=("explain.draw_seed", {"draw": draw, "count": count, "seed": seed, "row": row}),
    )


def _cell_id(choice: Choice, head: str | None) -> Worked:
    sampled, id = choice.sampled, choice.sampled.id
    if sampled.draw is None:
        return _cell_highest(choice)
    low = float(sampled.cdf[id - 1]) if id else 0.0
    high = float(sampled.cdf[id])
    found: dict[str, object] = {"word": id, "draw": sampled.draw, "low": low, "high": high}
    forced = sampled.forced is not None
    return Worked(
        terms=_constant(float(id)),
        total=float(id),
        expression=f"{operand(low)} <= {operand(sampled.draw)} < {operand(high)}",
        program="value = np.flatnonzero(cdf > draw)[0]",
        arrays={"cdf": sampled.cdf, "draw": sampled.draw},
        steps=(
            ("draw", sampled.draw, choice.at("draw")),
            ("before", low, choice.at("cdf", id - 1) if id else ""),
            ("cdf", high, choice.at("cdf", id)),
        ),
        note=("explain.forced", {"word": id, "forced": id}) if forced else ("explain.drawn", found),
    )


def _cell_highest(choice: Choice) -> Worked:
    """The id of greedy search, the highest; or what a beam search liked better."""
    sampled, id, went_on = choice.sampled, choice.sampled.id, choice.chosen
    if went_on != id:
        return _fixed(float(went_on), ("explain.beam", {"word": went_on, "highest": id}))
    others = np.delete(sampled.penalised, id)
    steps: list[Step] = [("highest", float(sampled.penalised[id]), choice.at("penalised", id))]
    note: Note = ("explain.only_word", {"word": id})
    if others.size:
        second = int(np.argmax(others))
        second += second >= id
        value = float(sampled.penalised[second])
        steps.append(("runner_up", value, choice.at("penalised", second)))
        gap = float(sampled.penalised[id]) - value
        note = ("explain.greedy", {"word": id, "second": second, "gap": gap})
    if sampled.forced is not None:
        note = ("explain.forced", {"word": id, "forced": id})
    return Worked(
        terms=_constant(float(id)),
        total=float(id),
        expression=f"{id} = argmax",
        program="value = np.argmax(penalised)",
        arrays={"penalised": sampled.penalised},
        steps=tuple(steps),
        note=note,
    )


CELLS: dict[str, Callable[[Choice, str | None], Worked]] = {
    "logits": _cell_logits,
    "penalised": _cell_penalised,
    "scaled": _cell_scaled,
    "kept": _cell_kept,
    "probabilities": _cell_probabilities,
    "cdf": _cell_cdf,
    "draw": _cell_draw,
    "id": _cell_id,
}


def _read(value: float, divisor: float, address: str, note: Note | None = None) -> Worked:
    """One recorded number, divided by a setting."""
    total = value / divisor
    shown = operand(value) if divisor == 1 else f"{operand(value)} / {operand(divisor)}"
    return Worked(
        terms=terms_of(value, 1 / divisor, addresses=lambda i: (address, "")),
        total=total,
        expression=f"{digits(total)} = {shown}",
        program="value = read / divisor",
        arrays={"read": value, "divisor": divisor},
        note=note,
    )


def _fixed(value: float, note: Note, steps: tuple[Step, ...] = ()) -> Worked:
    """A number that no arithmetic makes: a rule does, which `note` says."""
    return Worked(
        terms=_constant(value),
        total=value,
        expression=digits(value),
        program="value = constant",
        arrays={"constant": value},
        steps=steps,
        note=note,
    )


def _constant(value: float) -> Terms:
    return terms_of(value, addresses=lambda i: ("",))
