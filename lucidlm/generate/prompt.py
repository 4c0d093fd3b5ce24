"""What goes into a generation: the checks before anything runs, and reading the prompt."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Callable, Iterable, Sequence

from lucidlm.engine import Cache, Engine, Floats, ForwardContext, Ids, Tracer
from lucidlm.errors import GenerationError
from lucidlm.generate.settings import GenerationSettings


def check_settings(engine: Engine, settings: GenerationSettings) -> None:
    """Refuse settings that name ids which `engine` does not have."""
    for name, ids in settings.named_ids.items():
        for id in ids:
            if id >= engine.vocab_size:
                raise GenerationError(
                    "generate.setting_outside", field=name, id=id, size=engine.vocab_size
                )


def check_prompts(
    engine: Engine, prompts: Sequence[Ids], sources: Sequence[Ids] | None
) -> tuple[list[list[int]], list[list[int]] | None]:
    """Both as plain lists of int, after refusing what `engine` cannot continue.

    Raises GenerationError for no row, an empty row, an id outside the vocabulary, a prompt that
    leaves no room in the context, a source beyond it, and unequal numbers of rows.
    """
    checked = [check_ids(engine, row) for row in prompts]
    if not checked:
        raise GenerationError("generate.empty_prompt")
    for row in checked:
        if len(row) >= engine.max_positions:
            raise GenerationError(
                "generate.prompt_too_long", length=len(row), limit=engine.max_positions
            )
    if sources is None:
        return checked, None
    if len(sources) != len(checked):
        raise GenerationError("generate.unequal_rows", prompts=len(checked), sources=len(sources))
    return checked, [check_source(engine, row) for row in sources]


def check_ids(engine: Engine, ids: Iterable[int]) -> list[int]:
    """One row as a list of int; refuses an empty one and ids outside the vocabulary."""
    try:
        row = [operator.index(id) for id in ids]
    except TypeError:
        raise GenerationError("generate.not_ids", field="ids", value=reprlib.repr(ids)) from None
    if not row:
        raise GenerationError("generate.empty_prompt")
    for id in (min(row), max(row)):
        if not 0 <= id < engine.vocab_size:
            raise GenerationError("generate.id_outside", id=id, size=engine.vocab_size)
    return row


def check_source(engine: Engine, ids: Iterable[int]) -> list[int]:
    """`check_ids` for text that is read whole by an encoder: it may fill the context but not exceed
    it.
    """
    row = check_ids(engine, ids)
    if len(row) > engine.max_positions:
        raise GenerationError(
            "generate.source_too_long", length=len(row), limit=engine.max_positions
        )
    return row


def read(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    sources: Sequence[Sequence[int]] | None,
    chunk: int | None,
    tracer: Tracer | None,
    cancelled: Callable[[], bool],
) -> tuple[Cache, Floats] | None:
    """Run the encoder on `sources` and the decoder on `prompts`; (cache, logits (rows, vocab)), or
    None if cancelled.
    """
    cache = engine.cache(len(prompts))
    ctx = ForwardContext(cache=cache, tracer=tracer)
    if sources is not None:
        engine.encode(sources, ctx)
    logits: Floats | None = None
    for pieces in split(prompts, chunk):
        if cancelled():
            return None
        logits = engine.step(pieces, ctx)
    assert logits is not None
    return cache, logits


def split(prompts: Sequence[Sequence[int]], chunk: int | None) -> list[list[Ids]]:
    """The prompts in as many steps as pieces of `chunk` tokens need, every row in equal parts.

    A step takes at least one token of each row, so the shortest prompt bounds the number of steps:
    beside a very short one, pieces may be longer than `chunk`.
    """
    longest, shortest = max(map(len, prompts)), min(map(len, prompts))
    steps = 1 if chunk is None else min(-(-longest // chunk), shortest)
    return [
        [row[len(row) * i // steps : len(row) * (i + 1) // steps] for row in prompts]
        for i in range(steps)
    ]
