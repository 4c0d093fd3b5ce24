"""The functions that a reader may write: how each is done right, and the mistakes that are known by
what they do to the numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lucidlm.lessons.checking import attention, blocks, choosing, positions
from lucidlm.lessons.checking.attention import NONE, Slips

HALVES: Slips = frozenset({"halves"})


@dataclass(frozen=True)
class Function:
    """`recipe(*arguments, slips=...)` makes the named mistakes. Every one of `conventions`, slips
    themselves, is right.
    """

    recipe: Callable[..., Any]
    mistakes: tuple[str, ...]
    conventions: tuple[Slips, ...] = (NONE,)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of what the reader's function takes."""
        return tuple(name for name in inspect.signature(self.recipe).parameters if name != "slips")

    @property
    def signature(self) -> str:
        """`x, mask=None`"""
        taken = inspect.signature(self.recipe).parameters
        shown = [
            n if taken[n].default is inspect.Parameter.empty else f"{n}=None"
            for n in self.parameters
        ]
        return ", ".join(shown)

    @property
    def gives_id(self) -> bool:
        """Whether the result is a whole number rather than an array of real ones."""
        return bool(inspect.signature(self.recipe).return_annotation == "int")


FUNCTIONS = {
    "softmax": Function(attention.softmax, attention.SOFTMAX),
    "attention": Function(attention.attention, attention.ATTENTION),
    "multi_head_attention": Function(attention.multi_head_attention, attention.HEADS),
    "layer_norm": Function(blocks.layer_norm, blocks.LAYER_NORM),
    "rms_norm": Function(blocks.rms_norm, blocks.RMS_NORM),
    "feed_forward": Function(blocks.feed_forward, blocks.FEED_FORWARD),
    "gated_feed_forward": Function(blocks.gated_feed_forward, blocks.GATED),
    "embed": Function(positions.embed, positions.EMBEDDING),
    "positional_encoding": Function(
        positions.positional_encoding, positions.ENCODING, (NONE, HALVES)
    ),
    "rotate": Function(positions.rotate, positions.ROTATION, (HALVES, NONE)),
    "decoder_layer": Function(blocks.decoder_layer, blocks.LAYER),
    "greedy": Function(choosing.greedy, choosing.GREEDY),
    "sample": Function(choosing.sample, choosing.SAMPLE),
}
