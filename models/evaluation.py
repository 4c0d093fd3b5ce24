"""How well a trained model does what its card says: exact answers, BLEU and chrF, perplexity."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sacrebleu

import lucidlm
from lucidlm.generate import complete, score

ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Asked:
    """What a model is asked, and the one answer that counts: a chat's messages, or a sentence to
    translate.
    """

    messages: tuple[dict[str, str], ...]
    answer: str


def read(path: Path) -> list[Asked]:
    """The questions of an evaluation file, one JSON object a line."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Asked(tuple(row["messages"]), row["answer"]) for row in rows]


def answers(model: lucidlm.Model, asked: Sequence[Asked], max_new_tokens: int = 64) -> list[str]:
    """The model's greedy answers (beam search where its checkpoint asks for it), in order."""
    settings = model.settings(max_new_tokens=max_new_tokens)
    order = sorted(range(len(asked)), key=lambda i: len(asked[i].messages[-1]["content"]))
    found = [""] * len(asked)
    for some in _some(order):
        if model.is_translator:
            start = model.hints.decoder_start
            assert start is not None
            prompts = [[start] for _ in some]
            sources = [model.tokenizer.encode(asked[i].messages[-1]["content"]) for i in some]
        else:
            prompts, sources = [model.chat_ids(asked[i].messages) for i in some], []
        texts = complete(
            model.engine, prompts, settings, decoder=model.tokenizer, sources=sources or None
        )
        for i, text in zip(some, texts, strict=True):
            found[i] = text.text.strip()
    return found


def exact(found: Sequence[str], asked: Sequence[Asked]) -> float:
    """The share of answers that are right to the letter."""
    right = sum(a == b.answer for a, b in zip(found, asked, strict=True))
    return round(right / len(asked), 4)


def likeness(found: Sequence[str], asked: Sequence[Asked], lang: str) -> dict[str, float]:
    """sacrebleu's BLEU and chrF of answers in `lang` against the one reference."""
    references = [[one.answer for one in asked]]
    tokenize = "zh" if lang == "zh" else "13a"
    bleu = sacrebleu.corpus_bleu(list(found), references, tokenize=tokenize)
    chrf = sacrebleu.corpus_chrf(list(found), references)
    return {"bleu": round(bleu.score, 2), "chrf": round(chrf.score, 2)}


def perplexity(model: lucidlm.Model, texts: Sequence[str]) -> float:
    """exp of the mean surprise of a token, over all `texts`, their ends included."""
    total, tokens = 0.0, 0
    end = min(model.end)
    for text in texts:
        nll = score(model.engine, [*model.tokenizer.encode(text), end]).nll
        total, tokens = total + float(nll.sum()), tokens + nll.size
    return round(math.exp(total / tokens), 3)


def _some(order: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(order), ROWS_AT_ONCE):
        yield order[at : at + ROWS_AT_ONCE]
