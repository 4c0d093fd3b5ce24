"""What commands print with `--json`, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lucidlm.api import Model
    from lucidlm.generate import Text
    from lucidlm.terminal.stages import Word


def completion_json(model: str, prompt: str, completion: Text) -> dict[str, Any]:
    """The answer of `run`, `chat` and `translate`.

    `bytes` is a list of numbers from 0 to 255; a `text` that is no whole character shows them as
    escapes (\\xE5).
    """
    tokens = [
        token_json(
            t.id,
            t.text,
            t.bytes,
            t.probability,
            [(a.id, a.text, a.probability) for a in t.alternatives],
        )
        for t in completion.tokens
    ]
    return _answer(
        model,
        prompt,
        completion.text,
        tokens,
        completion.prompt_tokens,
        completion.seconds,
        completion.stop_reason,
    )


def step_json(
    model: Model, prompt: str, words: Sequence[Word], seconds: float, alternatives: int
) -> dict[str, Any]:
    """The same for `run --steps`: each token has its stages too (null where there are none)."""
    from lucidlm.text.spelling import readable

    bytes_of = model.tokenizer.bytes_of
    tokens = []
    for word in words:
        step = word.step
        others = [
            (id, readable(bytes_of(id)), p) for id, p in step.sampled.alternatives(alternatives)
        ]
        token = token_json(
            step.id, readable(step.bytes), step.bytes, step.sampled.probability, others
        )
        token["stages"] = None if word.stages is None else asdict(word.stages)
        token["draw"] = step.sampled.draw
        tokens.append(token)
    text = "".join(word.step.text for word in words)
    first, last = words[0].step, words[-1].step
    return _answer(model.name, prompt, text, tokens, first.position, seconds, last.finished)


def token_json(
    id: int,
    text: str,
    data: bytes,
    probability: float,
    alternatives: Iterable[tuple[int, str, float]],
) -> dict[str, Any]:
    return {
        "id": id,
        "text": text,
        "bytes": list(data),
        "probability": probability,
        "alternatives": [{"id": i, "text": t, "probability": p} for i, t, p in alternatives],
    }


def _answer(
    model: str,
    prompt: str,
    text: str,
    tokens: list[dict[str, Any]],
    prompt_tokens: int,
    seconds: float,
    stop_reason: str | None,
) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": prompt,
        "text": text,
        "tokens": tokens,
        "prompt_tokens": prompt_tokens,
        "seconds": seconds,
        "tokens_per_second": len(tokens) / seconds if seconds else 0.0,
        "stop_reason": stop_reason,
    }
