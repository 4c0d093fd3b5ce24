"""A whole answer at once, with what was measured about it: `generate` or beam search run to the
end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lucidlm.engine import Engine, Ids, Tracer
from lucidlm.generate.beam import Hypothesis, beam_search
from lucidlm.generate.loop import Step, StopReason, generate, never
from lucidlm.generate.settings import GenerationSettings
from lucidlm.generate.stream import Decoder, text_of
from lucidlm.text.spelling import readable


@dataclass(frozen=True)
class Alternative:
    """A token that could have stood in a place, with its plain probability there."""

    id: int
    text: str
    probability: float


@dataclass(frozen=True)
class GeneratedToken:
    """One token of an answer; bytes that are no whole character read as escapes in `text`.

    `probability` is the softmax of the model's own logits over the whole vocabulary, before every
    sampling setting.
    """

    id: int
    text: str
    bytes: bytes
    probability: float
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class Text:
    """One row's answer. `ids` and `tokens` include an end token and a stop string, `text` does not.

    `seconds` runs from the start of the call to the row's last token, reading the prompt included.
    """

    ids: tuple[int, ...]
    text: str
    tokens: tuple[GeneratedToken, ...]
    stop_reason: StopReason
    prompt_tokens: int
    seconds: float

    def __str__(self) -> str:
        return self.text

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Each token's own probability, in order."""
        return tuple(token.probability for token in self.tokens)

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens by `seconds`."""
        return len(self.ids) / self.seconds if self.seconds else 0.0


def complete(
    engine: Engine,
    prompts: Sequence[Ids],
    settings: GenerationSettings,
    *,
    decoder: Decoder,
    sources: Sequence[Ids] | None = None,
    alternatives: int = 0,
    tracer: Tracer | None = None,
    cancelled: Callable[[], bool] = never,
) -> list[Text]:
    """One `Text` per prompt, by beam search if `settings.beams` is above 1; arguments and
    errors as `generate`.

    `alternatives` is how many of the most likely tokens to note at each place.
    """
    begun = time.perf_counter()
    collected = [_Collected(decoder, alternatives, len(prompt)) for prompt in prompts]
    if settings.beams > 1:
        found = beam_search(
            engine,
            prompts,
            settings,
            decoder=decoder,
            sources=sources,
            alternatives=alternatives,
            tracer=tracer,
            cancelled=cancelled,
        )
        for row, hypotheses in zip(collected, found, strict=True):
            if hypotheses:
                row.take_hypothesis(hypotheses[0], settings, sources is not None)
            row.seconds = time.perf_counter() - begun
    else:
        steps = generate(
            engine,
            prompts,
            settings,
            decoder=decoder,
            sources=sources,
            tracer=tracer,
            cancelled=cancelled,
        )
        for step in steps:
            collected[step.row].take(step)
            collected[step.row].seconds = time.perf_counter() - begun
    return [row.completion() for row in collected]


class _Collected:
    """What has come of one row so far; the large records of `Step.sampled` are not kept."""

    def __init__(self, decoder: Decoder, alternatives: int, prompt_tokens: int) -> None:
        self.decoder = decoder
        self.alternatives = alternatives
        self.prompt_tokens = prompt_tokens
        self.tokens: list[GeneratedToken] = []
        self.text: list[str] = []
        self.reason: StopReason = "cancelled"
        self.seconds = 0.0

    def take(self, step: Step) -> None:
        sampled = step.sampled
        self._add(step.id, sampled.probability, sampled.alternatives(self.alternatives))
        self.text.append(step.text)
        self.reason = step.finished or self.reason

    def take_hypothesis(
        self, hypothesis: Hypothesis, settings: GenerationSettings, fresh: bool
    ) -> None:
        for token in hypothesis.tokens:
            self._add(token.id, token.probability, token.alternatives)
        said = [id for id in hypothesis.ids if id not in settings.end]
        self.text = [text_of(said, self.decoder, settings.stop, fresh=fresh)]
        self.reason = hypothesis.stop_reason

    def _add(self, id: int, probability: float, alternatives: Sequence[tuple[int, float]]) -> None:
        data = self.decoder.bytes_of(id)
        others = tuple(
            Alternative(i, readable(self.decoder.bytes_of(i)), p) for i, p in alternatives
        )
        self.tokens.append(GeneratedToken(id, readable(data), data, probability, others))

    def completion(self) -> Text:
        return Text(
            ids=tuple(token.id for token in self.tokens),
            text="".join(self.text),
            tokens=tuple(self.tokens),
            stop_reason=self.reason,
            prompt_tokens=self.prompt_tokens,
            seconds=self.seconds,
        )
