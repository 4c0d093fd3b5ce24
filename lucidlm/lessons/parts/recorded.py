"""What the lesson reads: the text that the runs learnt from, and what was recorded of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np

from lucidlm.plain import from_plain
from lucidlm.train.parts.record import Record, Records

HERE = Path(__file__).parent
RUNS = HERE / "runs.json"
LEVELS = "▁▂▃▄▅▆▇█"


@cache
def text() -> str:
    """The lines of Chinese, one sentence each."""
    return (HERE / "corpus.txt").read_text(encoding="utf-8")


@cache
def pairs() -> str:
    """Sentences and their translations, between them a tab."""
    return (HERE / "corpus.tsv").read_text(encoding="utf-8")


@cache
def records() -> Records:
    """Every recorded run."""
    return from_plain(Records, json.loads(RUNS.read_text(encoding="utf-8")), RUNS.name)


def middle(runs: tuple[Record, ...]) -> float:
    """The mean over seeds of the loss where a model sees nothing but what stands before."""
    return float(np.mean([run.writing for run in runs]))


def spread(runs: tuple[Record, ...]) -> float:
    """How far apart the seeds are, from the lowest to the highest."""
    losses = [run.writing for run in runs]
    return max(losses) - min(losses)


def sparkline(values: list[float], low: float, high: float) -> str:
    """One block a value, from `low` to `high`."""
    shares = (np.clip(values, low, high) - low) / (high - low)
    return "".join(LEVELS[round(float(share) * (len(LEVELS) - 1))] for share in shares)
