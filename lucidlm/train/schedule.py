"""The learning rate over a run, as a share of its peak."""

from __future__ import annotations

import math

from lucidlm.train.recipe import ScheduleRecipe


def share(step: int, total: int, schedule: ScheduleRecipe) -> float:
    """The rate of update `step` (from 0) of `total`, as a share of the peak.

    Up in a line over `warmup` updates, the first of which is not 0; then from 1 at update `warmup`
    down to `floor` where update `total` would be, so that the last one made still learns.
    """
    if step < schedule.warmup:
        return (step + 1) / (schedule.warmup + 1)
    done = min(1.0, (step - schedule.warmup) / max(1, total - schedule.warmup))
    left = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "none": 1.0}
    return schedule.floor + (1 - schedule.floor) * left[schedule.decay]
