"""Values that were not captured: one part of the model again, on its recorded input."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lucidlm.config import Config
from lucidlm.engine import Engine, ForwardContext
from lucidlm.reference.equations import wide
from lucidlm.trace.arrange import arrange, to_array
from lucidlm.trace.edits import BoundEdit
from lucidlm.trace.operations import Array
from lucidlm.trace.site import Site
from lucidlm.trace.stacks import last_residual, last_vector, output_stack, prefixes

REMEMBERED = 256 << 20  # bytes of replayed parts that are held


class Replay:
    """Runs parts again, with the run's edits, and compares a layer's output with what the run went
    on with.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        sites: Mapping[str, Site],
        edits: Sequence[BoundEdit],
        read: Callable[[str], Any],
        captured: frozenset[str],
    ) -> None:
        self.engine, self.config, self.sites = engine, config, sites
        self.edits, self.read, self.captured = edits, read, captured
        self.drift: dict[str, float] = {}  # by part: replayed output against the recorded one
        self._parts: OrderedDict[str, dict[str, Array]] = OrderedDict()
        self._sizes: dict[str, int] = {}  # of each of these, in bytes

    def part(self, name: str) -> Mapping[str, Array]:
        """Every site of a part, by address. Parts are held until `REMEMBERED` is reached; then
        those go that were asked for longest ago.
        """
        if name not in self._parts:
            self._parts[name] = self._run(name)
            self._sizes[name] = sum(array.nbytes for array in self._parts[name].values())
            while len(self._parts) > 1 and sum(self._sizes.values()) > REMEMBERED:
                oldest, _ = self._parts.popitem(last=False)
                del self._sizes[oldest]
        self._parts.move_to_end(name)
        return self._parts[name]

    def _run(self, part: str) -> dict[str, Array]:
        values: dict[str, Array] = {}
        own: dict[str, list[BoundEdit]] = {}
        for edit in self.edits:
            # of what goes in, the recorded value is the edited one already
            if not edit.site.address.endswith("residual_in"):
                own.setdefault(edit.site.address, []).append(edit)

        inputs = self._inputs(part)
        ctx = ForwardContext(tracer=_Again(self.sites, own, values), memory=self._memory(part))
        self.engine.replay(part, np.array(inputs)[None], ctx)
        self._compare(part, values)
        return values

    def _inputs(self, part: str) -> Any:
        """What a part reads."""
        if part in ("head", "pooler"):
            return self.read(last_vector(self.config, output_stack(self.config)))
        stack = next(stack for stack in prefixes(self.config) if part.startswith(stack))
        kind = part.removeprefix(stack)
        if kind == "embedding":
            return self.read(f"{stack}ids")
        if kind == "final_norm":
            return self.read(last_residual(self.config, stack))
        return self.read(f"{part}.residual_in")

    def _memory(self, part: str) -> Array | None:
        """What cross-attention looks at, for a decoder's layer of two stacks."""
        if not part.startswith("decoder.layers."):
            return None
        return np.array(self.read(last_vector(self.config, "encoder.")))[None]

    def _compare(self, part: str, values: Mapping[str, Array]) -> None:
        """Note how far a layer's output is from what was captured of it, if that is all its own."""
        layers, _, number = part.rpartition(".")
        if not layers.endswith("layers"):
            return
        ahead = f"{layers}.{int(number) + 1}.residual_in"
        at = ahead if ahead in self.captured else f"{part}.residual_out"
        if at not in self.captured or any(edit.site.address == at for edit in self.edits):
            return
        again, seen = wide(values[f"{part}.residual_out"]), wide(self.read(at))
        scale, gap = np.abs(seen).max(-1), np.abs(again - seen).max(-1)
        self.drift[part] = float((gap / np.where(scale > 0, scale, 1.0)).max())


class _Again:
    """The tracer of a part that runs again: edits its values and keeps them."""

    looks_at: frozenset[tuple[str, str]] | None = None  # at everything

    def __init__(
        self,
        sites: Mapping[str, Site],
        edits: Mapping[str, Sequence[BoundEdit]],
        values: dict[str, Array],
    ) -> None:
        self.sites, self.edits, self.values = sites, edits, values
        pairs = (address.rpartition(".") for address in edits)
        self.changes = frozenset((path, name) for path, _, name in pairs)

    def __call__(self, path: str, name: str, value: Any) -> Any:
        if (path, name) in self.changes:
            value = self.change(path, name, value)
        return self.seen(path, name, value)

    def change(
        self,
        path: str,
        name: str,
        value: Any,
        starts: Sequence[int] | None = None,
        counts: Sequence[int] = (),
    ) -> Any:
        """`value` edited, of all rows or, for an engine that asks row by row, of some."""
        for edit in self.edits[f"{path}.{name}"]:
            value = edit.apply(value, starts, counts)
        return value

    def seen(self, path: str, name: str, value: Any) -> Any:
        """Keep a value that is edited already."""
        address = f"{path}.{name}"
        self.values[address] = arrange(self.sites[address], to_array(value)[0])
        return value
