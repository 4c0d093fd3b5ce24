"""Beam search: keep the `beams` most probable beginnings, and of the complete hypotheses the best
by normalised score.

score = sum of log p(token) / length ** length_penalty (Wu et al. 2016, 7, without their offset of
5); length counts the generated tokens, the end token among them. Results equal those of
transformers' `generate(num_beams=...)`: each step looks at (1 + number of end ids, at least 2) *
beams candidates; those that end and are among the first `beams` become hypotheses, and the best
`beams` that do not end go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lucidlm.engine import Engine, Floats, ForwardContext, Ids, Tracer
from lucidlm.generate.loop import StopReason, never
from lucidlm.generate.prompt import check_prompts, check_settings, read
from lucidlm.generate.sampling import Doubles, History, check_highest, largest, penalise
from lucidlm.generate.settings import GenerationSettings
from lucidlm.generate.stream import Decoder


@dataclass(frozen=True)
class BeamToken:
    """One generated token; probabilities are the plain softmax of the logits it was chosen from."""

    id: int
    probability: float
    alternatives: tuple[tuple[int, float], ...]  # the most likely ids there, best first


@dataclass(frozen=True)
class Hypothesis:
    """A generated sequence. `log_probability` is the sum that was ranked, after penalties and bias
    where set.
    """

    tokens: tuple[BeamToken, ...]
    log_probability: float
    score: float  # log_probability / length ** length_penalty
    stop_reason: StopReason

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(token.id for token in self.tokens)


@dataclass(frozen=True)
class _Beam:
    """An open beginning."""

    tokens: tuple[BeamToken, ...] = ()
    log_probability: float = 0.0

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(token.id for token in self.tokens)


@dataclass(frozen=True)
class _Candidate:
    """A beam with one more token, and which beam that was."""

    beam: _Beam
    parent: int
    reason: StopReason | None


def beam_search(
    engine: Engine,
    prompts: Sequence[Ids],
    settings: GenerationSettings,
    *,
    decoder: Decoder,
    sources: Sequence[Ids] | None = None,
    alternatives: int = 0,
    tracer: Tracer | None = None,
    cancelled: Callable[[], bool] = never,
) -> list[list[Hypothesis]]:
    """For each prompt the complete hypotheses, at most `settings.beams`, best first.

    Arguments and errors as for `generate`. The rows of the cache are the open beams of all prompts
    still searching; one beam is greedy search. When cancelled, the open beams count as complete
    where they are.
    """
    check_settings(engine, settings)
    checked, checked_sources = check_prompts(engine, prompts, sources)
    searches = [_Search(p, settings, decoder, engine.max_positions, alternatives) for p in checked]
    begun = read(engine, checked, checked_sources, settings.prefill_chunk, tracer, cancelled)
    if begun is None:
        return [[] for _ in searches]
    cache, logits = begun
    active = searches
    while True:
        last = cancelled()
        parents: list[int] = []
        base = 0
        for search in active:
            size = len(search.open)
            parents += [
                base + parent for parent in search.advance(logits[base : base + size], last)
            ]
            base += size
        active = [search for search in active if search.open]
        if not active:
            return [search.complete for search in searches]
        if parents != list(range(base)):
            cache = cache.select(parents)
        ids = [[beam.tokens[-1].id] for search in active for beam in search.open]
        logits = engine.step(ids, ForwardContext(cache=cache, tracer=tracer))


class _Search:
    """The search from one prompt: `open` beams, best first, and `complete` hypotheses, best
    first.
    """

    def __init__(
        self,
        prompt: list[int],
        settings: GenerationSettings,
        decoder: Decoder,
        max_positions: int,
        alternatives: int,
    ) -> None:
        self.prompt = prompt
        self.settings = settings
        self.decoder = decoder
        self.room = max_positions - len(prompt)
        self.limit = min(settings.max_new_tokens, self.room)
        self.alternatives = alternatives
        self.stop = [s.encode("utf-8") for s in settings.stop]
        self.open: list[_Beam] = [_Beam()]
        self.complete: list[Hypothesis] = []

    def advance(self, logits: Floats, cancelled: bool) -> list[int]:
        """One step on `logits` (open beams, vocab). Returns for each beam then open the index of
        the one it continues.
        """
        beams = self.settings.beams
        candidates = self._candidates(logits)
        for candidate in candidates[:beams]:
            if candidate.reason is not None:
                self._add(candidate.beam, candidate.reason)
        going = [c for c in candidates if c.reason is None][:beams]
        self.open = [c.beam for c in going]
        if self._is_over():
            self.open = []
        elif cancelled:
            for beam in self.open:
                self._add(beam, "cancelled")
            self.open = []
        return [c.parent for c in going] if self.open else []

    def _candidates(self, logits: Floats) -> list[_Candidate]:
        """The most probable continuations of all open beams, best first."""
        plain = [log_softmax(row) for row in logits]
        totals = np.stack(
            [
                self._penalised(row, beam) + beam.log_probability
                for row, beam in zip(plain, self.open, strict=True)
            ]
        )
        vocab = totals.shape[1]
        if not self.complete:
            check_highest(float(totals.max()))
        count = max(2, 1 + len(self.settings.end)) * self.settings.beams
        top = [
            tuple((int(i), float(np.exp(row[i]))) for i in largest(row, self.alternatives))
            for row in plain
        ]
        candidates = []
        for flat in largest(totals.reshape(-1), count):
            parent, id = divmod(int(flat), vocab)
            total = float(totals[parent, id])
            if total == -np.inf:
                break
            token = BeamToken(id, float(np.exp(plain[parent][id])), top[parent])
            beam = _Beam((*self.open[parent].tokens, token), total)
            candidates.append(_Candidate(beam, parent, self._reason(beam)))
        return candidates

    def _penalised(self, log_probabilities: Doubles, beam: _Beam) -> Doubles:
        forced = None if beam.tokens else self.settings.forced_bos
        sampling = self.settings.sampling
        history = History.of(self.prompt, beam.ids) if sampling.penalises_history else History()
        return penalise(log_probabilities, sampling, history, forced)

    def _reason(self, beam: _Beam) -> StopReason | None:
        if beam.tokens[-1].id in self.settings.end:
            return "end"
        if self.stop:
            heard = (id for id in beam.ids if not self.decoder.is_special(id))
            said = b"".join(map(self.decoder.bytes_of, heard))
            if any(stop in said for stop in self.stop):
                return "stop"
        if len(beam.tokens) < self.limit:
            return None
        return "length" if self.limit == self.settings.max_new_tokens else "context"

    def _add(self, beam: _Beam, reason: StopReason) -> None:
        score = self._score(beam, len(beam.tokens))
        self.complete.append(Hypothesis(beam.tokens, beam.log_probability, score, reason))
        self.complete.sort(key=lambda h: -h.score)
        del self.complete[self.settings.beams :]

    def _is_over(self) -> bool:
        """Whether no open beam can, or by the rule of `early_stopping` may, still improve the
        result.
        """
        beams, early = self.settings.beams, self.settings.early_stopping
        if not self.open:
            return True
        if len(self.complete) < beams:
            return False
        if early is True or beams == 1:
            return True
        ahead = early == "never" and self.settings.length_penalty > 0
        best = self.open[0]
        return (
            self._score(best, self.limit if ahead else len(best.tokens)) <= self.complete[-1].score
        )

    def _score(self, beam: _Beam, length: int) -> float:
        return float(beam.log_probability / length**self.settings.length_penalty)


def log_softmax(logits: Floats) -> Doubles:
    """x - log(sum(exp(x))) in float64, (vocab,); all -inf stays so: no token can follow."""
    highest = float(logits[np.argmax(logits)])
    values = logits.astype(np.float64)
    if highest == -np.inf:
        return values
    check_highest(highest)
    values -= highest
    values -= np.log(np.exp(values).sum())
    return values
