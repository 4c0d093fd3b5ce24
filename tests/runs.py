"""Traces of short runs of the golden models, for tests of what can be asked of a trace."""

from __future__ import annotations

from functools import cache

from golden import golden

from lucidlm.generate import GenerationSettings, SamplingSettings
from lucidlm.trace.record import Recording, Subject, record
from lucidlm.trace.trace import Trace

PROMPT, SOURCE = (5, 9, 33, 7, 12, 40), (8, 3, 51, 22, 6)
SAMPLING = SamplingSettings(
    temperature=0.8, top_k=20, top_p=0.9, min_p=0.01, seed=3, repetition_penalty=1.2
)


class Spelled:
    """Words for a model that has only numbers: token 7 reads " w7"."""

    lead_space = False

    def bytes_of(self, id: int) -> bytes:
        return f" w{id}".encode()

    def is_special(self, id: int) -> bool:
        return False


@cache
def run(family: str, shape: str, *keep: str) -> Trace:
    """A short run of a golden model: read by an encoder alone, else three tokens are chosen."""
    pair = golden(family, shape)
    config = pair.checkpoint.config
    subject = Subject(
        name=shape,
        engine=pair.engine(),
        config=config,
        decoder=Spelled(),
        prompts=[PROMPT],
        sources=[SOURCE] if config.kind == "encoder-decoder" else None,
    )
    chosen = GenerationSettings(sampling=SAMPLING, max_new_tokens=3)
    settings = None if config.kind == "encoder" else chosen
    return record(subject, settings, Recording(keep=keep))[0]
