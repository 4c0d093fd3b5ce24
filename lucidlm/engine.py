"""What every engine promises, and the context that a forward pass carries. No PyTorch here.

An `Engine` turns token ids into logits. `generate` knows nothing else about it: the readable
PyTorch model, a native engine and an n-gram model all look the same from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Floats = NDArray[np.float32]
Ids = Sequence[int]

# What a vector is rounded to before it is multiplied: whole numbers of 8 bits with a scale for each
# 32 of them, or bfloat16.
Rounding = Literal["int8", "bfloat16"]
EXACT: Mapping[str, Rounding] = MappingProxyType({})


class Tracer(Protocol):
    """Sees a named value as it passes, and returns it or another in its place."""

    def __call__(self, path: str, name: str, value: Any) -> Any: ...


class ForeseeingTracer(Tracer, Protocol):
    """One that says beforehand what it will do, as an engine wants it that computes without asking.

    Such an engine calls `change` for rows of values as it makes them, and `seen` when all is done;
    any other tracer it shows everything, and refuses to take a value back.
    """

    @property
    def looks_at(self) -> frozenset[tuple[str, str]] | None:
        """(path, name) of the sites to be shown; None for all."""
        ...

    @property
    def changes(self) -> frozenset[tuple[str, str]]:
        """(path, name) of those that `change` is asked about."""
        ...

    def change(
        self, path: str, name: str, value: Any, starts: Sequence[int], counts: Sequence[int]
    ) -> Any:
        """What to go on with in place of `value`, whose rows are `counts` new positions from
        `starts` on.
        """
        ...

    def seen(self, path: str, name: str, value: Any) -> Any:
        """A value as it was used; gives it back."""
        ...


class Cache(Protocol):
    """What an engine remembers of the sequences it has read; opaque, one row each, rows of
    different lengths.
    """

    @property
    def lengths(self) -> list[int]:
        """Positions read so far, by row."""
        ...

    def select(self, rows: Sequence[int]) -> Self:
        """A cache of these rows in this order; a row may be repeated or left out (beam search)."""
        ...

    def fork(self) -> Self:
        """An independent copy: what is read into one is not seen by the other."""
        ...

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on, in every row."""
        ...


@dataclass(frozen=True, kw_only=True)
class ForwardContext:
    """The only thing threaded through a forward pass.

    A caller sets the first group; the model sets the second on the way down (tensors, whence
    `Any`).
    """

    cache: Cache | None = None
    tracer: Tracer | None = None
    attend: Callable[..., Any] | None = None  # an attention kernel; None is the readable one
    every_position: bool = False  # logits of all positions, not only of each row's last
    segments: Any = None  # BERT's token types, a sequence of ids by row (the model: a tensor)
    memory: Any = (
        None  # for a replay: the encoder's output (rows, S, dim) that the decoder looked at
    )

    # Rows that hold several documents beside each other, as they are learnt from: the document of
    # each position, (B, T), which sees that one alone, and the same of the encoder's, (B, S).
    documents: Any = None
    source_positions: Any = None
    source_documents: Any = None

    positions: Any = None  # (B, T) absolute; within its document where there are several
    lengths: Any = None  # (B,) positions that are real, by row, those in the cache included
    sight: Any = None  # by kind of attention, who may see whom: model.attention.Sight

    def tap(self, module: Any) -> Callable[[str, T], T]:
        """A function (name, value) -> value for `module`'s sites: the identity when nobody
        watches.
        """
        return untapped if self.tracer is None else partial(self.tracer, module.path)


def untapped(name: str, value: T) -> T:
    """What a tap does when nobody watches."""
    return value


class Engine(Protocol):
    """Token ids to logits."""

    vocab_size: int
    max_positions: int
    dtype: str  # of the numbers it computes with: "float32", "bfloat16" or "float64"

    @property
    def rounding(self) -> Mapping[str, Rounding]:
        """By the address of a parameter, how the vectors are rounded that it is multiplied with;
        those that are taken as they are do not appear.
        """
        ...

    @property
    def sites(self) -> Sequence[str]:
        """Names that a tracer may be shown."""
        ...

    def cache(self, rows: int) -> Cache:
        """An empty cache for `rows` sequences."""
        ...

    def encode(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        """Run the encoder over one source per row; returns its last vectors (rows, longest, dim),
        zeros behind a row's end.

        With a decoder, `ctx.cache` keeps them for the cross-attention of the steps that follow.
        """
        ...

    def step(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        """Read `ids` (any number per row, at least one) behind what `ctx.cache` holds, and return
        logits.

        (rows, vocab) for each row's last position, or with `ctx.every_position` (rows, longest,
        vocab), zeros behind a row's end. Without a cache the rows are read from position 0 and
        forgotten.
        """
        ...

    def replay(self, part: str, inputs: Any, ctx: ForwardContext) -> Floats:
        """One part of the model again on its recorded input; returns its output.

        The parts, and what goes in, are: `embedding` (ids, rows of equal length), `layers.3` and
        `final_norm` (residual stream (rows, T, dim)), `head` and `pooler` (last vectors (rows, T,
        dim)); of two stacks `encoder.` or `decoder.` goes before the first three. Positions run
        from 0; the taps of `ctx.tracer` fire as in the run itself. `ctx.memory` is what
        cross-attention looks at.
        """
        ...

    def weight(self, address: str) -> NDArray[np.floating]:
        """The parameter at `address`, as it is used; KeyError if there is none."""
        ...
