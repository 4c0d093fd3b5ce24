"""How good the model is by now: its loss on rows it never learns from, and what it writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lucidlm.engine import Engine
from lucidlm.errors import LucidError
from lucidlm.generate import GenerationSettings, SamplingSettings, complete, fill
from lucidlm.model.engine import TorchEngine
from lucidlm.model.transformer import Transformer
from lucidlm.train.batch import NO_LOSS, Batch
from lucidlm.train.devices import Processes
from lucidlm.train.setup import Subject

LONGEST = 48  # tokens of a sample
TEMPERATURE = 0.8  # of a continuation; a translation and a filled gap are the likeliest


def held_out(subject: Subject, processes: Processes) -> list[Batch]:
    """The batches of every evaluation of a run, always the same: about `evaluate_rows` lines, dealt
    out among the processes. All have equally many, since they compute together: what is over is a
    batch that nothing is asked of.
    """
    rows, corpus = subject.recipe.evaluate_rows, subject.corpus
    if corpus.held_out is None or not rows:
        return []
    count = min(len(corpus.held_out), -(-rows // subject.recipe.batch))
    found = []
    for number in processes.dealt(-(-count // processes.world) * processes.world):
        batch = corpus.held_out.batch(min(number, count - 1))
        unasked = np.full_like(batch.targets, NO_LOSS)
        found.append(batch if number < count else replace(batch, targets=unasked))
    return found


def samples(model: Transformer, subject: Subject) -> Iterator[tuple[str, str]]:
    """Each prompt of the recipe, and what the model makes of it.

    A prompt that this model cannot be asked is answered with the reason.
    """
    engine = TorchEngine(model)
    for prompt in subject.recipe.samples:
        try:
            yield prompt, _answer(engine, subject, prompt)
        except LucidError as error:
            yield prompt, error.message("en")


def _answer(engine: Engine, subject: Subject, prompt: str) -> str:
    tokenizer, hints = subject.corpus.tokenizer, subject.hints
    ids = tokenizer.encode(prompt)
    if subject.config.kind == "encoder":
        mask = tokenizer.specials.mask
        assert mask is not None, "an encoder's tokenizer can hide a token"
        blanks = fill(engine, ids, mask, top=3)
        return " / ".join(
            ", ".join(tokenizer.decode([id]).strip() for id, _ in blank.candidates)
            for blank in blanks
        )
    translates = subject.config.kind == "encoder-decoder"
    sampling = SamplingSettings(
        temperature=0.0 if translates else TEMPERATURE,
        seed=subject.recipe.seed,
        suppressed=hints.suppressed,
    )
    end = hints.end | frozenset(tokenizer.specials.eos)
    settings = GenerationSettings(sampling=sampling, max_new_tokens=LONGEST, end=end)
    start = hints.decoder_start if hints.decoder_start is not None else hints.pad or 0
    return complete(
        engine,
        [[start]] if translates else [ids],
        settings,
        decoder=tokenizer,
        sources=[ids] if translates else None,
    )[0].text
