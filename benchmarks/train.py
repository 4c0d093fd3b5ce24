"""Training speed, and the loss after equal time, beside trainers that people use.

Everybody trains a GPT-2 of the same shape on the same ids, each in a process of its own; warm and
compiled, they take turns, and a ratio is taken round by round, of ours with everybody's AdamW
(`lucidlm` itself has Muon, its default). Ours has the environment that
`lucidlm train` gives itself. The share is of the fastest matrix product measured here, in the type
that ours computes in. Then each trains from the start for as many steps as fit into `--seconds` at
the speed just measured. What is not installed is left out
(`pip install --no-deps litgpt lightning lightning-utilities`).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, report, spread
from trainers import Shape

from lucidlm.text.train import train_tokenizer
from lucidlm.train.environment import environment

NEEDS = {
    "lucidlm_adamw": "torch",
    "lucidlm": "torch",
    "nanogpt_loop": "torch",
    "hf_trainer": "accelerate",
    "litgpt": "litgpt",
}
HELD_OUT = 64  # windows
TEXT_BYTES = 6_000_000
MANY = 2000  # steps, more than are timed


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.set_defaults(model="gpt2, 6 layers of 384")
    parser.add_argument("--steps", type=int, default=4, help="in one turn")
    parser.add_argument("--seconds", type=float, default=120.0, help="0: speed alone")
    options = parser.parse_args()
    shape = Shape(threads=len(os.sched_getaffinity(0)))
    arms = [arm for arm, module in NEEDS.items() if importlib.util.find_spec(module)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "shape.json").write_text(json.dumps(dataclasses.asdict(shape)))
        text = write_ids(folder, shape)
        times, peaks = take_turns(arms, folder, options.rounds, options.steps, shape)
        tokens = shape.batch * shape.context * options.steps
        result: dict[str, Any] = {
            "shape": dataclasses.asdict(shape),
            "precision": "bfloat16" if _bfloat16() else "float32",
            "tokens_per_second": {
                arm: spread([tokens / s for s in found]) for arm, found in times.items()
            },
            "ratio": {
                arm: spread([b / a for a, b in zip(times["lucidlm_adamw"], found, strict=True)])
                for arm, found in times.items()
                if arm != "lucidlm_adamw"
            },
            "matmul_peak_gflops": spread(peaks),
            "share_of_peak": {
                arm: spread([tokens / s * shape.flops / 1e9 / max(peaks) for s in found])
                for arm, found in times.items()
            },
        }
        if options.seconds:
            result["text"] = text
            result["after_seconds"] = options.seconds
            result["held_out"] = {
                arm: learn(arm, folder, options.seconds, statistics.median(found) / options.steps)
                for arm, found in times.items()
            }
    report("train", result, options)


class Trainer:
    """One arm's process, warm."""

    def __init__(self, arm: str, folder: Path, steps: int) -> None:
        script = Path(__file__).with_name("trainers.py")
        own = environment() if arm.startswith("lucidlm") else {}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), arm, str(folder), str(steps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | own,
            cwd=folder,
        )

    def __call__(self, steps: int) -> float:
        """Seconds that so many steps take."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> float:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended with {self.process.wait()}")
        return float(json.loads(line))

    def close(self) -> None:
        """No more turns: it measures its loss, and ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def take_turns(
    arms: list[str], folder: Path, rounds: int, steps: int, shape: Shape
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of each arm by round, and the fastest matrix product in each, GFLOP/s."""
    trainers = {arm: Trainer(arm, folder, MANY) for arm in arms}
    for trainer in trainers.values():
        trainer(4)  # compiles, and warms up
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    peaks = []
    for _ in range(rounds):
        peaks.append(peak(shape))
        for arm, trainer in trainers.items():
            times[arm].append(trainer(steps))
    for trainer in trainers.values():
        trainer.end()
    return times, peaks


def learn(arm: str, folder: Path, seconds: float, a_step: float) -> dict[str, float]:
    """The held-out loss after the steps that fit, and how long they took without the first two."""
    steps = max(8, round(seconds / a_step))
    trainer = Trainer(arm, folder, steps)
    trainer(2)
    took = trainer(steps - 2)
    trainer.close()
    return {"steps": steps, "seconds": took, "loss": trainer.answer()}


def peak(shape: Shape) -> float:
    """The fastest product at the model's shapes, in the type ours computes in, GFLOP/s."""
    import torch

    torch.set_num_threads(shape.threads)
    kind = torch.bfloat16 if _bfloat16() else torch.float32
    rows, best = shape.batch * shape.context, 0.0
    for inner, outer in ((384, 1536), (1536, 384), (384, 6144), (1024, 1024), (2048, 2048)):
        a, b = torch.randn(rows, inner).to(kind), torch.randn(inner, outer).to(kind)
        for _ in range(5):
            begun = time.perf_counter()
            torch.mm(a, b)
            best = max(best, 2 * rows * inner * outer / (time.perf_counter() - begun) / 1e9)
    return best


def write_ids(folder: Path, shape: Shape) -> str:
    """Python's own library as ids of a BPE vocabulary, its last files held out; says what it is."""
    library, texts, size = Path(sysconfig.get_paths()["stdlib"]), [], 0
    for path in sorted(library.glob("*.py")):
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        size += len(texts[-1])
        if size > TEXT_BYTES:
            break
    tokenizer = train_tokenizer("bpe", texts, shape.vocab)
    ids = np.concatenate([np.array(tokenizer.encode(text), np.uint16) for text in texts])
    held = HELD_OUT * (shape.context + 1)
    np.save(folder / "ids.npy", ids[:-held])
    np.save(folder / "held.npy", ids[-held:])
    return f"{len(texts)} files of Python {sys.version.split()[0]}'s library, {len(ids)} ids"


def _bfloat16() -> bool:
    import torch

    from lucidlm.train.step import precision

    return precision("auto", torch.device("cpu")) == torch.bfloat16


if __name__ == "__main__":
    main()
