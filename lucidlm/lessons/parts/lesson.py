"""What the lesson shows: recorded runs, what they say about each claim, and one step backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType

import numpy as np

from lucidlm.classical.words import Words as Vocabulary
from lucidlm.errors import MissingExtra
from lucidlm.lessons.kinds import Array, Block, Matrix, Table, Value
from lucidlm.lessons.parts.order import DIM, SENTENCES, difference
from lucidlm.lessons.parts.recorded import (
    middle,
    pairs,
    records,
    sparkline,
    spread,
    text,
)
from lucidlm.lessons.telling import Lesson, Needs, Runs, Words
from lucidlm.train.parts.record import Record
from lucidlm.train.parts.settings import NAMES, SETTINGS, TRANSLATORS, WRITERS

TRAINED = tuple(name for name in WRITERS if name != "n-gram")
LAYERED = ("whole", "no-residual", "no-norm", "uniform", "no-position", "no-mask")
CLAIMS = (  # claim, the run with the part, the run without
    ("claim_mask", "whole", "no-mask"),
    ("claim_position", "whole", "no-position"),
    ("claim_choose", "whole", "uniform"),
    ("claim_feedforward", "whole", "no-feedforward"),
    ("claim_residual", "whole", "no-residual"),
    ("claim_norm", "whole", "no-norm"),
    ("claim_recurrent", "whole", "gru"),
    ("claim_counting", "whole", "n-gram"),
    ("claim_decoder", "decoder-only", "encoder-decoder"),
)
STEPS = 2  # of the optimiser that are shown
SENTENCE = "我很高兴。"
TINY_SEED, RATE = 1, 1e-2
WEIGHT, CELL = "layers.0.feedforward.up.weight", (0, 0)

Row = tuple[str, float, float, float]  # address, norm, gradient of the largest cell, by nudging


def values(say: Words) -> dict[str, Value]:
    return (
        budget(say)
        | table(say)
        | curves(say)
        | gradients(say)
        | mask(say)
        | position(say)
        | translation(say)
        | verdicts(say)
        | {"others": [name for name in NAMES if name != "no-mask"]}
    )


def first(name: str) -> Record:
    """The run of the first seed."""
    return records().of(name)[0]


def budget(say: Words) -> dict[str, Value]:
    lines, whole = text().splitlines(), first("whole")
    return {
        "lines": len(lines),
        "characters": sum(map(len, lines)),
        "steps": SETTINGS.steps,
        "tokens": whole.tokens,
        "parameters": whole.parameters,
        "layers": SETTINGS.layers,
        "dim": SETTINGS.dim,
        "rate": SETTINGS.rate,
        "seeds": len(records().of("whole")),
        "machine": records().machine,
        "apart": max(abs(first(name).parameters / whole.parameters - 1) for name in TRAINED),
    }


def table(say: Words) -> dict[str, Value]:
    """Every run that writes."""
    rows, nexts = [], []
    for name in WRITERS:
        runs = records().of(name)
        speed = float(np.mean([run.speed for run in runs]))
        rows.append((say(name), _loss(runs), round(speed, -2) if name in TRAINED else "-"))
        likely = zip(runs[0].top, runs[0].shares, strict=True)
        likeliest = " ".join(f"{token} {share:.2f}" for token, share in likely)
        nexts.append((say(name), likeliest, SETTINGS.opening + runs[0].answer))
    return {
        "table": Table((say("run"), say("loss"), say("speed")), tuple(rows), ".0f"),
        "opening": SETTINGS.opening,
        "answers": Table((say("run"), say("next"), say("writes")), tuple(nexts)),
        "counts": first("n-gram").parameters,
        "order": SETTINGS.order,
        "same": math.exp(middle(records().of("whole"))),
    }


def curves(say: Words) -> dict[str, Value]:
    """The training loss, all on one scale: that of the runs that cannot see ahead."""
    points = {name: [loss for _, loss in first(name).learnt] for name in TRAINED}
    low = min(min(losses) for name, losses in points.items() if name != "no-mask")
    high = max(map(max, points.values()))
    rows = tuple(
        (say(name), sparkline(losses, low, high), losses[-1], first(name).fed)
        for name, losses in points.items()
    )
    heads = (say("run"), say("training"), say("end"), say("fed"))
    return {"curves": Table(heads, rows, ".2f"), "low": low, "high": high}


def gradients(say: Words) -> dict[str, Value]:
    """How much of the loss's pull arrives at each layer."""
    layers = [f"layers.{number}" for number in range(SETTINGS.layers)]
    labels = tuple(map(say, LAYERED))

    def matrix(norms: Iterable[list[float]]) -> Matrix:
        return Matrix(labels, tuple(layers), np.array(list(norms)), ".2g")

    begun = {name: [first(name).first[layer] for layer in layers] for name in LAYERED}
    ended = {name: [first(name).last[layer] for layer in layers] for name in LAYERED}
    return {
        "first": matrix(begun.values()),
        "last": matrix(ended.values()),
        "ratio_whole": begun["whole"][0] / begun["whole"][-1],
        "ratio_residual": begun["no-residual"][0] / begun["no-residual"][-1],
        "small": begun["no-norm"][0],
        "left": ended["no-residual"][0],
    }


def mask(say: Words) -> dict[str, Value]:
    """What the model without a mask learnt, and what it is worth."""
    without, whole = first("no-mask"), first("whole")
    rows = tuple(
        (say(name), run.learnt[-1][1], run.fed, run.writing)
        for name, run in (("whole", whole), ("no-mask", without))
    )
    heads = (say("run"), say("end"), say("fed"), say("loss"))
    return {
        "masks": Table(heads, rows, ".3f"),
        "unmasked": SETTINGS.opening + without.answer,
        "masked": SETTINGS.opening + whole.answer,
        "context": SETTINGS.context,
    }


def position(say: Words) -> dict[str, Value]:
    """Two sentences of the same words, to models with random weights."""
    cases = (
        ("order_whole", True, True, 2),
        ("order_unplaced", True, False, 2),
        ("order_one_layer", True, False, 1),
        ("order_neither", False, False, 2),
    )
    rows = tuple(
        (say(key), layers, difference(causal=causal, position=placed, layers=layers))
        for key, causal, placed, layers in cases
    )
    one, two = SENTENCES
    return {
        "one": one,
        "two": two,
        "tiny_dim": DIM,
        "orders": Table(("", say("layers"), say("difference")), rows, ".1e"),
    }


def translation(say: Words) -> dict[str, Value]:
    """Decoder alone, and encoder with decoder."""
    rows = []
    for name in TRANSLATORS:
        runs = records().of(name)
        share = float(np.mean([run.right for run in runs if run.right is not None]))
        speed = float(np.mean([run.speed for run in runs]))
        count = runs[0].parameters
        rows.append((say(name), count, _loss(runs), f"{share:.0%}", round(speed, -2)))
    heads = (say("run"), say("parameters"), say("loss"), say("right"), say("speed"))
    told = tuple((say(name), first(name).answer) for name in TRANSLATORS)
    return {
        "pairs": len(pairs().splitlines()),
        "pair_steps": SETTINGS.pair_steps,
        "translators": Table(heads, tuple(rows), ".0f"),
        "sentence": SETTINGS.sentence,
        "translations": Table((say("run"), say("writes")), told),
    }


def verdict(with_part: str, without: str) -> str:
    """ "holds" where every run with the part is better than every run without, "fails" where every
    one is worse, else "open".
    """
    one, other = ([run.writing for run in records().of(name)] for name in (with_part, without))
    if max(one) < min(other):
        return "holds"
    return "fails" if min(one) > max(other) else "open"


def verdicts(say: Words) -> dict[str, Value]:
    """Each claim, by the numbers."""
    rows = []
    for claim, part, without in CLAIMS:
        one, other = middle(records().of(part)), middle(records().of(without))
        rows.append((say(claim), one, other, say(verdict(part, without))))
    heads = (say("claim"), say("with"), say("without"), say("verdict"))
    seeds = len(records().of("whole"))
    luck = 2 / math.comb(2 * seeds, seeds)  # all of one before all of the other, or behind
    return {"verdicts": Table(heads, tuple(rows), ".3f"), "luck": luck}


def _loss(runs: tuple[Record, ...]) -> str:
    """The mean, and how far the seeds are apart where there are several."""
    apart = f" ({spread(runs):.3f})" if len(runs) > 1 and spread(runs) else ""
    return f"{middle(runs):.3f}{apart}"


def step_backward(say: Words, model: str) -> dict[str, Value]:
    """Gradients at every site and of every weight of a tiny model, each beside a nudge."""
    steps = _backward()
    words, ids = _taught()
    tiny = steps.tiny(words.vocab_size, TINY_SEED)
    found = steps.backward(tiny, ids)

    def rows(gradients: Mapping[str, Array], nudge: Callable[..., float]) -> list[Row]:
        told = []
        for address, gradient in gradients.items():
            cell = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
            nudged = nudge(tiny, ids, address, tuple(map(int, cell)))
            told.append((address, float(np.linalg.norm(gradient)), float(gradient[cell]), nudged))
        return told

    sites = rows(dict(reversed(found.sites.items())), steps.by_nudging)
    weights = rows(found.weights, steps.by_nudging_weight)
    heads = (say("norm"), say("gradient"), say("nudged"))
    return {
        "taught": SENTENCE,
        "tiny_parameters": sum(weight.size for weight in found.weights.values()),
        "step_loss": found.loss,
        "sites": Table((say("site"), *heads), tuple(sites), ".4g"),
        "weights": Table((say("weight"), *heads), tuple(weights), ".4g"),
        "agreement": max(abs(row[2] - row[3]) / abs(row[2]) for row in (*sites, *weights)),
        "nudge": steps.NUDGE,
    }


def step_update(say: Words, model: str) -> dict[str, Value]:
    """What AdamW makes of one gradient, twice."""
    steps = _backward()
    from lucidlm.train.optimiser import EPSILON
    from lucidlm.train.recipe import OptimiserRecipe

    words, ids = _taught()
    tiny = steps.tiny(words.vocab_size, TINY_SEED)
    recipe = OptimiserRecipe(name="adamw", rate=RATE, clip=0.0)
    told = steps.updates(tiny, ids, WEIGHT, CELL, recipe, STEPS)
    (b1, b2), rate = recipe.betas, recipe.rate
    labels = {
        "gradient": "g",
        "mean": f"m ← {b1} m + {1 - b1:.3g} g",
        "square": f"v ← {b2} v + {1 - b2:.3g} g²",
        "mean_hat": f"m̂ = m / (1 − {b1}ᵗ)",
        "square_hat": f"v̂ = v / (1 − {b2}ᵗ)",
        "step": f"{rate} · m̂ / (√v̂ + {EPSILON})",
        "decay": f"{rate} · {recipe.weight_decay} · w",
        "weight": "w",
        "result": say("result"),
    }
    rows: list[tuple[str, ...]] = [
        (label, *(f"{getattr(each, name):.8g}" for each, _ in told))
        for name, label in labels.items()
    ]
    rows.append((say("by_torch"), *(f"{made:.8g}" for _, made in told)))
    heads = tuple(say("step", step=step) for step in range(1, STEPS + 1))
    return {
        "which": f"{WEIGHT}[{', '.join(map(str, CELL))}]",
        "update": Table(("", *heads), tuple(rows)),
        "update_apart": max(abs(each.result - made) for each, made in told),
        "first_step": abs(told[0][0].step),
        "update_rate": rate,
    }


def again(say: Words, name: str, progress: Callable[[str], None]) -> dict[str, Block]:
    """Train `name` with the first seed, and put it beside its record."""
    try:
        from lucidlm.train.parts.run import run
    except ModuleNotFoundError as error:
        raise _missing(error) from None

    def watch(made: int, steps: int, loss: float) -> None:
        progress(say("progress", name=say(name), made=made, steps=steps, loss=loss))

    recorded = first(name)
    now = run(name, SETTINGS, text(), pairs(), recorded.seed, watch)
    begin = SETTINGS.sentence + " " if name in TRANSLATORS else SETTINGS.opening
    rows = [
        (say(key), each.parameters, each.writing, round(each.speed, -2), begin + each.answer)
        for key, each in (("recorded", recorded), ("now", now))
    ]
    nexts = [
        (say(key), " ".join(f"{t} {p:.2f}" for t, p in zip(each.top, each.shares, strict=True)))
        for key, each in (("recorded", recorded), ("now", now))
    ]
    heads = (say("run"), say("parameters"), say("loss"), say("speed"), say("writes"))
    return {
        "rows": Table(heads, tuple(rows)),
        "next": Table((say("run"), say("next")), tuple(nexts)),
    }


def _taught() -> tuple[Vocabulary, list[int]]:
    """The characters of one sentence, and it with </s> around it."""
    words = Vocabulary.learn(SENTENCE, "character")
    assert words.end is not None
    return words, [words.end, *words.encode(SENTENCE), words.end]


def _backward() -> ModuleType:
    try:
        from lucidlm.train.parts import backward
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    return backward


def _missing(error: ModuleNotFoundError) -> Exception:
    """What to say where PyTorch is not there."""
    return MissingExtra("torch", "`lucidlm lesson parts`") if error.name == "torch" else error


LESSON = Lesson(
    values=values,
    needs={"backward": Needs((), step_backward), "update": Needs((), step_update)},
    runs=Runs(NAMES, again),
)
