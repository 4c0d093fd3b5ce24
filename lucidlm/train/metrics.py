"""A run's numbers on disk: a line of JSON each step, a plot of the loss, and TensorBoard's files
where it is installed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lucidlm.files import replacing, write_atomic
from lucidlm.train.events import Stepped

LINES = "metrics.jsonl"
PLOT = "loss.png"
BOARD = "tensorboard"
SMOOTHING = 0.95  # of the plotted line: an exponential mean of the loss


class Metrics:
    """The files of one run in `folder`; what they hold of steps after `step` is cut off first."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        path = folder / LINES
        with replacing(path) as kept:  # a line that a killed run left half written goes too
            for line, said in _lines(path):
                if said["step"] <= step:
                    kept.write(line)
        self._file = path.open("ab")
        self._board = _board(folder / BOARD, step)

    def write(self, stepped: Stepped) -> None:
        """One step, at once on its way to the disk."""
        said = {
            "step": stepped.step,
            "loss": stepped.loss,
            "held_out": stepped.held_out,
            "rate": stepped.rate,
            "gradient_norm": stepped.gradient_norm,
            "tokens": stepped.tokens,
            "seconds": stepped.seconds,
            "tokens_per_second": stepped.tokens_per_second,
        }
        self._file.write(json.dumps(said).encode() + b"\n")
        self._file.flush()
        if self._board is not None:
            for name in ("loss", "held_out", "rate", "gradient_norm", "tokens_per_second"):
                if said[name] is not None:
                    self._board.add_scalar(name, said[name], stepped.step)

    def close(self) -> None:
        """Close the files and draw the plot."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        self.draw()

    def draw(self) -> None:
        """The plot of what there is so far; a full disk is told of by what matters more."""
        with suppress(OSError):
            draw(self.folder)


def read(folder: Path) -> list[dict[str, Any]]:
    """Every step that was written, in order; none where nothing was."""
    return [said for _, said in _lines(folder / LINES)]


def draw(folder: Path) -> None:
    """loss.png from the lines, where matplotlib is installed and there is something to draw."""
    rows = read(folder)
    if len(rows) < 2 or find_spec("matplotlib") is None:
        return
    from io import BytesIO

    from matplotlib.figure import Figure

    steps = [row["step"] for row in rows]
    losses = [row["loss"] for row in rows]
    smooth, mean = [], losses[0]
    for loss in losses:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smooth.append(mean)
    measured = [(row["step"], row["held_out"]) for row in rows if row["held_out"] is not None]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="C0", alpha=0.3, linewidth=0.8)
    axes.plot(steps, smooth, color="C0", label="train")
    if measured:
        axes.plot(*zip(*measured, strict=True), "o-", color="C1", markersize=3, label="held out")
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.legend()
    axes.grid(alpha=0.3)
    image = BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomic(folder / PLOT, image.getvalue())


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Whole lines, as bytes and read; the first one that is damaged ends them."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                said = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n") or not isinstance(said, dict) or "step" not in said:
                return
            yield line, said


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, or None where it is not installed; later steps of an earlier writer
    are hidden.
    """
    if find_spec("tensorboard") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
