"""Fill-in: an encoder's guess for each masked place (Devlin et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from lucidlm.engine import Engine, ForwardContext, Ids, Tracer
from lucidlm.errors import GenerationError
from lucidlm.generate.prompt import check_source
from lucidlm.generate.sampling import largest, softmax
from lucidlm.generate.settings import require_whole


@dataclass(frozen=True)
class Filled:
    """One masked place and its likeliest ids with their probabilities over the whole vocabulary,
    best first.
    """

    position: int
    candidates: tuple[tuple[int, float], ...]


def fill(
    engine: Engine,
    ids: Ids,
    mask_id: int,
    top: int = 5,
    segments: Ids | None = None,
    tracer: Tracer | None = None,
) -> list[Filled]:
    """Every place of `mask_id` in `ids`, left to right, each guessed with the others still masked.

    Raises GenerationError if nothing is masked, or the text does not fit the engine.
    """
    row = check_source(engine, ids)
    require_whole("top", top, 1)
    places = [position for position, id in enumerate(row) if id == mask_id]
    if not places:
        raise GenerationError("generate.no_mask")
    ctx = ForwardContext(
        every_position=True, segments=None if segments is None else [segments], tracer=tracer
    )
    logits = engine.step([row], ctx)[0]
    filled = []
    for place in places:
        probabilities = softmax(logits[place])
        best = largest(logits[place], top)
        filled.append(Filled(place, tuple((int(id), float(probabilities[id])) for id in best)))
    return filled
