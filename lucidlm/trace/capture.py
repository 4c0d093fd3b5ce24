"""Every value of one pass, for who looks at a model rather than at a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lucidlm.config import Config
from lucidlm.engine import Engine, ForwardContext
from lucidlm.trace.arrange import arrange, to_array
from lucidlm.trace.operations import Array
from lucidlm.trace.sites import catalogue


def capture(
    engine: Engine, config: Config, ids: Sequence[int], source: Sequence[int] | None = None
) -> dict[str, Array]:
    """Read `ids` (with `source` through the encoder) and return what passed, by address along the
    sites' axes: copies.
    """
    sites, values = catalogue(config, engine.rounding), {}

    def keep(path: str, name: str, value: Any) -> Any:
        address = f"{path}.{name}"
        values[address] = arrange(sites[address], to_array(value)[0]).copy()
        return value

    ctx = ForwardContext(cache=engine.cache(1), tracer=keep, every_position=True)
    if source is not None:
        engine.encode([source], ctx)
    if config.head is None:
        engine.encode([ids], ctx)
    else:
        engine.step([ids], ctx)
    return values
