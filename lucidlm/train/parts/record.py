"""What is written down of a run, and a file of runs. No PyTorch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run of one variant. Losses are nats a token; the counting model has neither steps nor
    gradients.
    """

    name: str
    seed: int
    parameters: int  # learnt ones
    tokens: int  # read in training
    seconds: float  # of one processor, training alone
    learnt: tuple[tuple[float, ...], ...]  # (step, mean training loss since the point before)
    held_out: tuple[tuple[float, ...], ...]  # (step, loss), the text itself being fed in
    writing: float  # loss where nothing but what stands before is there to be seen
    first: Mapping[str, float]  # gradient norm by layer, of the first step
    last: Mapping[str, float]
    answer: str  # greedily, to what is asked
    top: tuple[str, ...]  # the tokens most likely to come next, and their probabilities
    shares: tuple[float, ...]
    right: float | None = None  # share of held-out sentences translated word for word

    @property
    def fed(self) -> float:
        """The held-out loss at the end, the text itself being fed in."""
        return self.held_out[-1][1]

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


@dataclass(frozen=True, kw_only=True)
class Records:
    """All runs of one corpus, one machine and one set of settings."""

    fingerprint: str
    machine: str
    runs: tuple[Record, ...]

    def of(self, name: str) -> tuple[Record, ...]:
        """Every seed's run of `name`."""
        return tuple(run for run in self.runs if run.name == name)
