"""When a loss is no number, or far worse than it was: stop, and find out where it began.

The batch that failed runs again under a tracer that looks at every named value in order of
computation, and at the gradient of each on the way back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch
from torch import Tensor

from lucidlm.engine import ForwardContext
from lucidlm.errors import TrainError
from lucidlm.model.transformer import Transformer
from lucidlm.train.batch import Batch
from lucidlm.train.objective import loss, tensors

EXPLOSION = 3.0  # times the running median, and worse than guessing evenly: not to be mended
REMEMBERED, ENOUGH = 50, 20  # losses that the median is of; fewer than so many say nothing
SHOWN = 3  # sites named with the one that failed

Fault = Literal["weight", "value", "gradient", "nothing"]


@dataclass(frozen=True)
class Finding:
    """Where the first value that is no number stood, and the largest sizes just before it."""

    fault: Fault
    site: str
    before: tuple[tuple[str, float], ...]  # (address, max |x|), the nearest last

    @property
    def sizes(self) -> str:
        return ", ".join(f"{site} {size:.3g}" for site, size in self.before) or "-"


class Health:
    """Judges each step's loss by those before it; `vocab_size` words guessed evenly cost the
    logarithm.
    """

    def __init__(self, vocab_size: int) -> None:
        self.guessing = math.log(vocab_size)
        self.losses: deque[float] = deque(maxlen=REMEMBERED)

    def exploded(self, loss: float) -> bool:
        """Whether `loss` is beyond mending; else it is remembered."""
        if len(self.losses) >= ENOUGH:
            if loss > max(EXPLOSION * self.median, self.guessing):
                return True
        self.losses.append(loss)
        return False

    @property
    def median(self) -> float:
        """Of the last losses; 0 before the first."""
        return median(self.losses) if self.losses else 0.0


def explain(
    model: Transformer,
    batches: Sequence[Batch],
    *,
    dtype: torch.dtype,
    step: int,
    loss: float,
    usual: float | None,
    kept: str,
) -> TrainError:
    """What to tell of update `step` that ended in `loss`. `usual` is the median where the loss is a
    number but exploded; `kept` names the last good checkpoint.
    """
    finding = diagnose(model, batches, dtype)
    said = {"step": step, "site": finding.site, "sizes": finding.sizes, "kept": kept}
    if usual is not None:
        return TrainError("training.exploded", loss=f"{loss:.3g}", usual=f"{usual:.3g}", **said)
    return TrainError(f"training.not_finite_{finding.fault}", **said)


def diagnose(model: Transformer, batches: Sequence[Batch], dtype: torch.dtype) -> Finding:
    """Run `batches` again, forward and back, until a value is no number. The weights stay as they
    are, without gradients. Where everything is a number, `before` are the largest values.
    """
    for address, weight in model.weights().items():
        if not torch.isfinite(weight).all():
            return Finding("weight", address, ())
    found = Finding("nothing", "-", ())
    for batch in batches:
        watch = _Watch()
        place = model.table.device
        with torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
            total, count = loss(model, tensors(batch, place), ForwardContext(tracer=watch))
        if watch.failed is None:
            watch.look("loss", total)
        if watch.failed is not None:
            return Finding("value", watch.failed, watch.last())
        watch.sizes.clear()
        (total / count.clamp(min=1)).backward()
        model.zero_grad(set_to_none=True)
        if watch.failed is not None:
            return Finding("gradient", watch.failed, watch.last())
        largest = sorted(watch.forward.items(), key=lambda pair: pair[1])[-SHOWN:]
        found = Finding("nothing", largest[-1][0] if largest else "-", tuple(largest))
    return found


class _Watch:
    """A tracer that notes how large every value is, and which was the first that is no number."""

    def __init__(self) -> None:
        self.failed: str | None = None
        self.sizes: dict[str, float] = {}  # of what is being computed: values, then gradients
        self.forward: dict[str, float] = {}

    def __call__(self, path: str, name: str, value: Tensor) -> Tensor:
        site = f"{path}.{name}" if path else name
        self.look(site, value)
        self.forward[site] = self.sizes.get(site, 0.0)
        if value.requires_grad:
            value.register_hook(lambda gradient: self.look(site, gradient))
        return value

    def look(self, site: str, value: Tensor) -> None:
        if self.failed is not None:
            return
        seen = value.detach()
        if site.endswith((".scores", ".position_bias")):  # -inf hides a key
            seen = seen.masked_fill(seen == -torch.inf, 0.0)
        size = float(seen.abs().max()) if seen.numel() else 0.0
        if math.isfinite(size):
            self.sizes[site] = size
        else:
            self.failed = site

    def last(self) -> tuple[tuple[str, float], ...]:
        return tuple(self.sizes.items())[-SHOWN:]
