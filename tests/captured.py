"""Every value of one forward pass over one sequence, as `lucidlm.trace.operations.Values`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lucidlm.config import Config
from lucidlm.engine import Engine
from lucidlm.trace.capture import capture as capture_pass
from lucidlm.trace.site import Site
from lucidlm.trace.sites import catalogue


@dataclass
class Captured:
    """What passed, by address along the catalogue's axes; nothing was sampled."""

    engine: Engine
    config: Config
    values: dict[str, Any]
    sites: Mapping[str, Site]

    def read(self, address: str) -> Any:
        return self.values[address]

    def weight(self, address: str) -> Any:
        return self.engine.weight(address)

    def sampled(self, position: int) -> Any:
        raise AssertionError("nothing was sampled")

    def start(self, address: str) -> int:
        return 0


def capture(
    engine: Engine, config: Config, ids: Sequence[int], source: Sequence[int] | None = None
) -> Captured:
    """Run `ids` (and `source` through the encoder) and keep everything."""
    values: dict[str, Any] = {**capture_pass(engine, config, ids, source)}
    at = "decoder." if source is not None else ""
    values[f"{at}ids"], values[f"{at}segments"] = list(ids), [0] * len(ids)
    if source is not None:
        values["encoder.ids"], values["encoder.segments"] = list(source), [0] * len(source)
    return Captured(engine, config, values, catalogue(config))
