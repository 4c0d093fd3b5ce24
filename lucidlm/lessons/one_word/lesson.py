"""What the lesson computes: one slot filled, every figure of it, and the sentence to its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import lucidlm
from lucidlm.generate import GenerationSettings, complete
from lucidlm.lessons.kinds import Array, Bars, Figures, Matrix, Table, Value
from lucidlm.lessons.one_word import model as hand
from lucidlm.lessons.running import opened, watched
from lucidlm.lessons.telling import Lesson, Words, figure
from lucidlm.reference.equations import softmax

KNOWN = ("<SOS>", "我", "很")
LAYER = "layers.0"
SITES = {  # what the article calls a stage, and where it is
    "input": f"{LAYER}.residual_in",
    "attention": f"{LAYER}.attention.output",
    "added": f"{LAYER}.attention_norm.added",
    "norm": f"{LAYER}.attention_norm.residual.output",
    "hidden": f"{LAYER}.feedforward.up",
    "activated": f"{LAYER}.feedforward.activated",
    "feedforward": f"{LAYER}.feedforward.output",
    "added_again": f"{LAYER}.feedforward_norm.added",
    "norm_again": f"{LAYER}.feedforward_norm.residual.output",
    "logits": "head.logits",
}


@dataclass(frozen=True)
class Filled:
    """One slot of the article's loop: what was known, and what the model gave."""

    known: tuple[int, ...]
    pattern: Array  # over all slots, the empty one last
    probabilities: Array
    chosen: int


def values(say: Words) -> dict[str, Value]:
    strict, causal = opened(_article), opened(hand.write)
    known = tuple(map(hand.WORDS.index, KNOWN))
    seen = watched(strict, [*known, hand.BLANK])
    return (
        _model(say)
        | _stages(say, seen)
        | _choice(say, seen["head.logits"][-1])
        | _loop(say, strict)
        | _real(say, causal, seen)
    )


def at_the_slot(seen: dict[str, Array]) -> dict[str, Array]:
    """The article's stages at its empty slot, by their names in `ARTICLE`."""
    found = {name: seen[address][-1] for name, address in SITES.items()}
    pattern = seen[f"{LAYER}.attention.pattern"][0, -1, :-1]
    return found | {"pattern": pattern, "probabilities": softmax(found["logits"])}


def fill_slots(model: lucidlm.Model) -> Iterator[Filled]:
    """The article's loop: an empty slot behind what is known, filled and known, up to <EOS>."""
    known = [hand.WORDS.index("<SOS>")]
    while known[-1] != hand.WORDS.index("<EOS>"):
        seen = watched(model, [*known, hand.BLANK])
        probabilities = softmax(seen["head.logits"][-1])
        chosen = int(probabilities.argmax())
        pattern = seen[f"{LAYER}.attention.pattern"][0, -1]
        yield Filled(tuple(known), pattern, probabilities, chosen)
        known.append(chosen)


def best_temperature(logits: Array, wanted: Array) -> float:
    """The temperature whose softmax is nearest to the shares `wanted`, by cross-entropy."""
    candidates = np.linspace(0.5, 3.0, 2501)
    shares = softmax(logits / candidates[:, None])
    return float(candidates[(np.log(shares) @ wanted).argmax()])


def _article(folder: Path) -> Path:
    return hand.write(folder, "strict")


def _model(say: Words) -> dict[str, Value]:
    weights = hand.weights()
    heads = (say("id"), say("word"), say("vector"))
    rows = tuple(
        (id, word, _vector(vector))
        for id, (word, vector) in enumerate(
            zip(hand.WORDS, weights["embedding.tokens.weight"], strict=True)
        )
    )
    return {
        "vocabulary": Table(heads, rows),
        "words": len(hand.WORDS),
        "dim": hand.DIM,
        "hidden_size": hand.HIDDEN,
        "slot": hand.SLOT,
        "known": KNOWN,
        "blank": hand.WORDS[hand.BLANK],
    }


def _stages(say: Words, seen: dict[str, Array]) -> dict[str, Value]:
    here, article = at_the_slot(seen), hand.ARTICLE
    attention = f"{LAYER}.attention"
    names = (*KNOWN, say("empty"))
    scores = seen[f"{attention}.scores"][0, -1]
    plain = seen[f"{LAYER}.attention_norm.residual.normalized"][-1]
    again = seen[f"{LAYER}.feedforward_norm.residual.normalized"][-1]
    compared = [
        figure(say, name, article[name], _short(here[name]))
        for name in ("input", "pattern", "attention", "added")
    ]
    compared.append(figure(say, "norm", article["norm"], plain, ".4f"))
    compared += [
        figure(say, name, article[name], _short(here[name]))
        for name in ("hidden", "activated", "feedforward", "added_again")
    ]
    compared.append(figure(say, "norm_again", article["norm_again"], again, ".4f"))
    return {
        "input": here["input"],
        "scores": Table(
            (say("word"), say("score"), say("share")),
            tuple(
                (name, float(s), float(w))
                for name, s, w in zip(
                    names, scores, seen[f"{attention}.pattern"][0, -1], strict=True
                )
            ),
            ".4f",
        ),
        "attention": _short(here["attention"]),
        "added": _short(here["added"]),
        "mean": float(here["added"].mean()),
        "deviation": float(here["added"].std()),
        "plain": plain,
        "shift": _short(here["norm"] - plain),
        "norm": _short(here["norm"]),
        "article_mean": float(np.mean(article["norm"])),
        "article_variance": float(np.var(article["norm"])),
        "hidden": _short(here["hidden"]),
        "activated": _short(here["activated"]),
        "cut": int((here["hidden"] < 0).sum()),
        "feedforward": _short(here["feedforward"]),
        "added_again": _short(here["added_again"]),
        "plain_again": again,
        "norm_again": _short(here["norm_again"]),
        "stage_figures": Figures(tuple(compared)),
    }


def _choice(say: Words, logits: Array) -> dict[str, Value]:
    article = np.array(hand.ARTICLE["probabilities"])
    shares = softmax(logits)
    warm = best_temperature(logits, article)
    first, last = 0, len(logits) - 1  # the two that the article makes equal
    rows = (
        figure(say, "logits", hand.ARTICLE["logits"], _short(logits)),
        figure(say, "probabilities", hand.ARTICLE["probabilities"], shares, ".4f"),
        figure(say, "chosen", hand.WORDS[int(article.argmax())], hand.WORDS[int(shares.argmax())]),
    )
    return {
        "logits": _short(logits),
        "shares": Bars.of(hand.WORDS, shares),
        "choice": hand.WORDS[int(shares.argmax())],
        "temperature": warm,
        "warm": softmax(logits / warm),
        "first": hand.WORDS[first],
        "last": hand.WORDS[last],
        "first_logit": float(logits[first]),
        "last_logit": float(logits[last]),
        "equal": float(article[first]),
        "ratio": float(np.exp((logits[first] - logits[last]) / warm)),
        "choice_figures": Figures(rows),
    }


def _loop(say: Words, strict: lucidlm.Model) -> dict[str, Value]:
    filled = tuple(fill_slots(strict))
    heads = (say("slot"), say("sees"), say("writes"), say("probability"))
    rows = tuple(
        (
            len(one.known),
            " ".join(hand.WORDS[id] for id in one.known),
            hand.WORDS[one.chosen],
            float(one.probabilities[one.chosen]),
        )
        for one in filled
    )
    words = (*KNOWN[:1], *(hand.WORDS[one.chosen] for one in filled))
    return {"loop": Table(heads, rows, ".2%"), "sentence": " ".join(words), "passes": len(filled)}


def _real(say: Words, causal: lucidlm.Model, strict: dict[str, Array]) -> dict[str, Value]:
    start = hand.WORDS.index("<SOS>")
    settings = GenerationSettings(end=causal.end, max_new_tokens=hand.SLOT + 2)
    text = complete(causal.engine, [[start]], settings, decoder=causal.tokenizer)[0]
    ids = [start, *(token.id for token in text.tokens)]
    seen = watched(causal, ids[: hand.SLOT])
    pattern, own = f"{LAYER}.attention.pattern", (*KNOWN, say("empty"))
    difference = np.abs(seen["head.logits"][-1] - strict["head.logits"][-1]).max()
    return {
        "strict": Matrix(own, own, strict[pattern][0]),
        "causal": Matrix(KNOWN, KNOWN, seen[pattern][0]),
        "generated": " ".join(hand.WORDS[id] for id in ids),
        "stop": text.stop_reason or "",
        "last_slot": hand.SLOT - 1,
        "last_known": KNOWN[-1],
        "last_input": seen[f"{LAYER}.residual_in"][-1],
        "real_logits": _short(seen["head.logits"][-1]),
        "difference": float(difference),
        "end_share": float(softmax(seen["head.logits"][-1])[hand.BLANK]),
    }


def _short(vector: Array) -> Array:
    """Without what the last bits of a float make of a round number."""
    return vector.round(9) + 0.0


def _vector(vector: Array) -> str:
    return "[" + ", ".join(f"{x:g}" for x in _short(vector)) + "]"


LESSON = Lesson(values=values, article={**hand.ARTICLE, "masked": -999})
