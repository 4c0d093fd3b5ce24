"""What a run tells whoever watches it. The loop only tells; drawing is somebody else's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from lucidlm.train.corpus import Report
    from lucidlm.train.estimate import Memory


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """Data on their way: `stage` names what is being done, `share` how much of it is."""

    stage: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Everything is there and fits; the first step comes next."""

    name: str
    folder: Path | None  # None for a dry run
    report: Report
    parameters: int
    memory: Memory
    device: str
    peak_flops: float  # of matrix products, per second, measured
    flops_per_token: int  # forward and backward
    start: int  # steps that are done already
    steps: int


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One update of the weights."""

    step: int  # counts from 1
    loss: float
    rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    held_out: float | None = None  # where it was measured after this step

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What the model makes of a prompt of the recipe by now."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint is complete on disk."""

    step: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """A signal came: the step in progress is finished, saved, and the run ends."""

    signal: str


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The model as a folder that can be loaded."""

    folder: Path


Event: TypeAlias = Preparing | Ready | Stepped | Sampled | Saved | Stopping | Exported
Watcher: TypeAlias = Callable[[Event], None]


def unwatched(event: Event) -> None:
    """The watcher of a run that nobody watches."""
