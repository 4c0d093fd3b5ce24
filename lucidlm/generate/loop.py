"""The decoding loop: one generator of steps for a single prompt, a batch, and an
encoder-decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from lucidlm.engine import Engine, Floats, ForwardContext, Ids, Tracer
from lucidlm.errors import GenerationError
from lucidlm.generate.prompt import check_prompts, check_settings, read
from lucidlm.generate.sampling import History, Sampled, generator, sample
from lucidlm.generate.settings import GenerationSettings
from lucidlm.generate.stream import Decoder, TextStream

# an end token; a stop string; max_new_tokens; the context is full; the caller's wish
StopReason = Literal["end", "stop", "length", "context", "cancelled"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One new token of one row."""

    row: int  # index into the prompts
    index: int  # 0 for the row's first new token
    position: int  # of the token in the (decoder's) sequence: prompt length + index
    id: int
    bytes: bytes
    text: (
        str  # became certain with this token: whole characters, no piece of a stop string; often ""
    )
    sampled: Sampled
    finished: StopReason | None  # the row's last step


def never() -> bool:
    """The `cancelled` of a run that nobody cancels."""
    return False


def generate(
    engine: Engine,
    prompts: Sequence[Ids],
    settings: GenerationSettings,
    *,
    decoder: Decoder,
    sources: Sequence[Ids] | None = None,
    tracer: Tracer | None = None,
    cancelled: Callable[[], bool] = never,
) -> Generator[Step, None, None]:
    """Continue each of `prompts`, token by token; yields the rows' steps in turn until all have
    finished.

    With an encoder, `sources` are what it reads, one per row, and `prompts` what the decoder begins
    with (its start token). Rows of different lengths finish independently and leave the cache; a
    row gets the same tokens alone as in a batch, given the same random numbers
    (`sampling.row_seed`). A row ends with "context" when it fills the engine's positions.
    `cancelled` is asked once a step: if it says yes, every row ends with that step's token. Closing
    the generator stops it where it is. Raises GenerationError before anything runs if the input or
    a setting is impossible.
    """
    if settings.beams > 1:
        raise GenerationError("generate.beams_stream", beams=settings.beams)
    check_settings(engine, settings)
    checked, checked_sources = check_prompts(engine, prompts, sources)
    return _steps(engine, checked, checked_sources, settings, decoder, tracer, cancelled)


def _steps(
    engine: Engine,
    prompts: list[list[int]],
    sources: list[list[int]] | None,
    settings: GenerationSettings,
    decoder: Decoder,
    tracer: Tracer | None,
    cancelled: Callable[[], bool],
) -> Generator[Step, None, None]:
    begun = read(engine, prompts, sources, settings.prefill_chunk, tracer, cancelled)
    if begun is None:
        return
    cache, logits = begun
    rows = [
        _Row(i, prompt, settings, decoder, engine.max_positions, fresh=sources is not None)
        for i, prompt in enumerate(prompts)
    ]
    while True:
        last = cancelled()
        yield from [
            row.advance(row_logits, last) for row, row_logits in zip(rows, logits, strict=True)
        ]
        left = [i for i, row in enumerate(rows) if row.finished is None]
        if not left:
            return
        if len(left) < len(rows):
            cache, rows = cache.select(left), [rows[i] for i in left]
        logits = engine.step(
            [[row.last] for row in rows], ForwardContext(cache=cache, tracer=tracer)
        )


class _Row:
    """One sequence on its way."""

    def __init__(
        self,
        index: int,
        prompt: list[int],
        settings: GenerationSettings,
        decoder: Decoder,
        max_positions: int,
        fresh: bool,
    ) -> None:
        self.index = index
        self.settings = settings
        self.decoder = decoder
        self.start = len(prompt)
        self.room = max_positions - len(prompt)
        self.history = History.of(prompt)
        self.rng = generator(settings.sampling.seed, index)
        self.stream = TextStream(settings.stop, drop_space=fresh and decoder.lead_space)
        self.count = 0
        self.last = prompt[-1]
        self.finished: StopReason | None = None

    def advance(self, logits: Floats, cancelled: bool) -> Step:
        """Choose the next token from `logits` (vocab,)."""
        forced = self.settings.forced_bos if self.count == 0 else None
        sampled = sample(logits, self.settings.sampling, self.history, self.rng, forced)
        self.last = sampled.id
        self.history.add(self.last)
        data = self.decoder.bytes_of(self.last)
        ended = self.last in self.settings.end
        unsaid = ended or self.decoder.is_special(self.last)
        text = "" if unsaid else self.stream.push(data)
        self.finished = self._reason(ended, cancelled)
        if self.finished is not None:
            text += self.stream.flush()
        step = Step(
            row=self.index,
            index=self.count,
            position=self.start + self.count,
            id=self.last,
            bytes=data,
            text=text,
            sampled=sampled,
            finished=self.finished,
        )
        self.count += 1
        return step

    def _reason(self, ended: bool, cancelled: bool) -> StopReason | None:
        if ended:
            return "end"
        if self.stream.stopped:
            return "stop"
        if self.count + 1 >= self.settings.max_new_tokens:
            return "length"
        if self.count + 1 >= self.room:
            return "context"
        return "cancelled" if cancelled else None
