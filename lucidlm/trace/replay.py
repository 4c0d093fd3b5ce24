"""Values that were not captured: one part of the model again, on its recorded input."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lucidlm.config import Config
from lucidlm.engine import Engine, ForwardContext
from lucidlm.trace.arrange import arrange, to_array
from lucidlm.trace.edits import BoundEdit
from lucidlm.trace.operations import Array
from lucidlm.trace.sites import Site

REMEMBERED = 2  # parts whose values are held


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

    def part(self, name: str) -> Mapping[str, Array]:
        """Every site of a part, by address."""
        if name not in self._parts:
            self._parts[name] = self._run(name)
            while len(self._parts) > REMEMBERED:
                self._parts.popitem(last=False)
        self._parts.move_to_end(name)
        return self._parts[name]

    def _run(self, part: str) -> dict[str, Array]:
        values: dict[str, Array] = {}
        own: dict[str, list[BoundEdit]] = {}
        for edit in self.edits:
            if not edit.site.endswith("residual_in"):  # what was recorded is already the edited one
                own.setdefault(edit.site, []).append(edit)

        def keep(path: str, name: str, value: Any) -> Any:
            address = f"{path}.{name}"
            for edit in own.get(address, ()):
                value = edit.apply(value)
            values[address] = arrange(self.sites[address], to_array(value)[0])
            return value

        inputs = self._inputs(part)
        ctx = ForwardContext(tracer=keep, memory=self._memory(part))
        self.engine.replay(part, np.array(inputs)[None], ctx)
        self._compare(part, values)
        return values

    def _inputs(self, name: str) -> Any:
        stack = f"{name.partition('.')[0]}." if name.startswith(("encoder.", "decoder.")) else ""
        kind = name.removeprefix(stack)
        if kind == "embedding":
            return self.read(f"{stack}ids")
        if kind.startswith("layers."):
            return self.read(f"{name}.residual_in")
        if kind == "final_norm":
            return self.read(self.last_residual(stack))
        return self.read(self.last_vector(self.output_stack))

    def _memory(self, name: str) -> Array | None:
        """What cross-attention looks at, for a decoder's layer of two stacks."""
        if not name.startswith("decoder.layers."):
            return None
        return np.array(self.read(self.last_vector("encoder.")))[None]

    @property
    def output_stack(self) -> str:
        return "decoder." if len(self.config.stacks) > 1 else ""

    def last_residual(self, stack: str) -> str:
        """The address of what a stack's last layer puts out."""
        return f"{stack}layers.{self._stack(stack).layers - 1}.residual_out"

    def last_vector(self, stack: str) -> str:
        """The address of what a stack puts out."""
        final = self._stack(stack).final_norm
        return f"{stack}final_norm.output" if final else self.last_residual(stack)

    def _stack(self, stack: str) -> Any:
        named = self.config.stacks.get(stack.removesuffix("."))
        return named or next(iter(self.config.stacks.values()))

    def _compare(self, name: str, values: Mapping[str, Array]) -> None:
        head, _, number = name.rpartition(".")
        if not head.endswith("layers"):
            return
        ahead = f"{head}.{int(number) + 1}.residual_in"
        at = ahead if ahead in self.captured else f"{name}.residual_out"
        if at not in self.captured or any(edit.site == at for edit in self.edits):
            return
        again, seen = (
            np.asarray(x, np.float64) for x in (values[f"{name}.residual_out"], self.read(at))
        )
        scale = np.abs(seen).max(axis=-1)
        gap = np.abs(again - seen).max(axis=-1)
        self.drift[name] = float((gap / np.where(scale > 0, scale, 1)).max())
