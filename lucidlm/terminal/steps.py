"""What a forward pass did for its last position: collected by a tracer while the model runs, for
`run --steps`.

Every number is one that passed through the model; nothing is averaged. Works on any engine whose
taps name their values as `lucidlm.model` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lucidlm.trace.arrange import to_array

Array = NDArray[np.floating]

FIRST = 5  # values of a vector that are shown
LINKS = 3  # of each layer
UNITS = 2  # of each feed-forward

# of each layer, below its own path
NAMES = (
    "residual_in",
    "attention.output",
    "attention.pattern",
    "attention_norm.output.output",
    "attention_norm.added",
    "attention_norm.residual.output",
    "cross_attention.output",
    "cross_attention.pattern",
    "cross_attention_norm.output.output",
    "cross_attention_norm.added",
    "cross_attention_norm.residual.output",
    "feedforward_norm.input.output",
    "feedforward.activated",
    "feedforward.product",
    "feedforward.output",
    "feedforward_norm.output.output",
    "residual_out",
)
WANTED = re.compile(
    r"(?:decoder\.)?(?:layers\.\d+\.(?:"
    + "|".join(map(re.escape, NAMES))
    + r")|final_norm\.output)"
)


@dataclass(frozen=True)
class Vector:
    """A vector's size, its first values, and its length (the root of the sum of squares)."""

    size: int
    first: tuple[float, ...]
    length: float

    @classmethod
    def of(cls, values: Array) -> Vector:
        wide = values.astype(np.float64)
        return cls(wide.size, tuple(map(float, wide[:FIRST])), float(np.sqrt(wide @ wide)))


@dataclass(frozen=True)
class Link:
    """One head looks at one position: the highest weight that any head of the layer gives it."""

    position: int
    head: int
    weight: float


@dataclass(frozen=True)
class Unit:
    """One of the widened values inside a feed-forward, after the activation (and the gate, where
    there is one).
    """

    index: int
    value: float


@dataclass(frozen=True)
class LayerStages:
    """One layer's work on the last position. `sum` is the residual stream plus `attention_added`,
    before any norm behind
    it; `source_sum` the same for attention to an encoder's output.
    """

    layer: int
    before: Vector
    links: tuple[Link, ...]
    source_links: tuple[Link, ...]  # into the encoder's output; empty without one
    attention_added: Vector
    sum: Vector
    source_added: Vector | None
    source_sum: Vector | None
    normed: Vector  # what the feed-forward read
    units: int
    strongest: tuple[Unit, ...]
    feedforward_added: Vector
    after: Vector


@dataclass(frozen=True)
class Stages:
    """Stages 1 to 5 of one word: from the input vector to the output vector."""

    input: Vector
    layers: tuple[LayerStages, ...]
    output: Vector


@dataclass
class Collector:
    """A tracer that keeps the last position of what `Stages` needs, of the newest pass."""

    seen: dict[str, Array] = field(default_factory=dict)

    def __call__(self, path: str, name: str, value: Any) -> Any:
        address = f"{path}.{name}" if path else name
        if WANTED.fullmatch(address):
            last = value[0, :, -1] if name == "pattern" else value[0, -1]  # (H, S) or (dim,)
            self.seen[address.removeprefix("decoder.")] = to_array(last).copy()
        return value

    def stages(self) -> Stages | None:
        """What the newest pass did; None where the engine has no such sites."""
        count = sum(address.endswith("residual_in") for address in self.seen)
        if not count:
            return None
        layers = tuple(self._layer(layer) for layer in range(count))
        output = self.seen.get("final_norm.output")
        return Stages(
            layers[0].before, layers, layers[-1].after if output is None else Vector.of(output)
        )

    def _layer(self, layer: int) -> LayerStages:
        def get(*names: str) -> Array | None:
            """The first of these that the layer has."""
            return next(
                (self.seen[at] for name in names if (at := f"layers.{layer}.{name}") in self.seen),
                None,
            )

        def need(*names: str) -> Array:
            value = get(*names)
            assert value is not None, names
            return value

        inner = need("feedforward.product", "feedforward.activated")
        cross = get("cross_attention.pattern")
        crossed = get("cross_attention_norm.output.output", "cross_attention.output")
        strongest = np.argsort(-np.abs(inner), kind="stable")[:UNITS]
        read = get(
            "feedforward_norm.input.output",
            "cross_attention_norm.residual.output",
            "attention_norm.residual.output",
        )
        summed, source_sum = need("attention_norm.added"), get("cross_attention_norm.added")
        return LayerStages(
            layer=layer,
            before=Vector.of(need("residual_in")),
            links=_links(need("attention.pattern")),
            source_links=() if cross is None else _links(cross),
            attention_added=Vector.of(need("attention_norm.output.output", "attention.output")),
            sum=Vector.of(summed),
            source_added=None if crossed is None else Vector.of(crossed),
            source_sum=None if source_sum is None else Vector.of(source_sum),
            normed=Vector.of(summed if read is None else read),
            units=inner.size,
            strongest=tuple(Unit(int(i), float(inner[i])) for i in strongest),
            feedforward_added=Vector.of(
                need("feedforward_norm.output.output", "feedforward.output")
            ),
            after=Vector.of(need("residual_out")),
        )


def spread(count: int, shown: int) -> tuple[int, ...]:
    """`shown` of `count` layers, evenly, with the first and the last."""
    if count <= shown:
        return tuple(range(count))
    return tuple(sorted({round(i * (count - 1) / (shown - 1)) for i in range(shown)}))


def _links(pattern: Array) -> tuple[Link, ...]:
    """pattern (H, S) to its strongest links, each to another position."""
    heads = pattern.argmax(axis=0)  # (S,)
    weights = pattern[heads, np.arange(pattern.shape[1])]
    best: Sequence[int] = np.argsort(-weights, kind="stable")[:LINKS].tolist()
    return tuple(Link(at, int(heads[at]), float(weights[at])) for at in best if weights[at] > 0)
