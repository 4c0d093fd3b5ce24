"""A run that is killed and resumed ends in the very numbers of one that nobody disturbed.

Real processes, killed at random moments; Muon, dropout and accumulation on.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import recipes

from lucidlm.checkpoint.safetensors import open_safetensors

ROOT = Path(__file__).parent.parent
STEPS, KILLS = 30, 5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"steps": STEPS, "dropout": 0.1, "accumulate": 2, "batch": 4, "samples": []}
    return recipes.write(
        tmp_path_factory.mktemp("recipe"), save_every=3, evaluate_every=5, keep=1, **changes
    )


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> Path:
    run = recipe.parent / "undisturbed"
    assert start(recipe, run).wait(300) == 0
    return run


def start(recipe: Path, run: Path, *options: str) -> subprocess.Popen[bytes]:
    """`lucidlm train`, with what it says in a file beside the run."""
    command = [sys.executable, "-m", "lucidlm", "train", str(recipe), "--out", str(run), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (run.parent / f"{run.name}.txt").open("ab") as said:
        return subprocess.Popen(command, env=environment, stdout=said, stderr=said)


def wait_for_steps(process: subprocess.Popen[bytes], run: Path, count: int) -> None:
    """Until so many lines of metrics are written, or the process has ended."""
    lines, end = run / "metrics.jsonl", time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if lines.is_file() and lines.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)


def weights(run: Path) -> dict[str, bytes]:
    with open_safetensors(run / "model") as file:
        return {name: file.read(name).tobytes() for name in file.names}


def assert_same(run: Path, undisturbed: Path) -> None:
    """The same losses, evaluations and weights, bit for bit."""
    assert recipes.losses(run) == recipes.losses(undisturbed)
    for name in ("loss", "held_out", "gradient_norm", "rate"):
        assert column(run, name) == column(undisturbed, name)
    assert weights(run) == weights(undisturbed)


def column(run: Path, name: str) -> list[float | None]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)[name] for line in lines]


def test_two_processes_learn_the_same(recipe: Path, undisturbed: Path) -> None:
    run = recipe.parent / "again"
    assert start(recipe, run).wait(300) == 0
    assert_same(run, undisturbed)


def test_killed_at_random_moments(recipe: Path, undisturbed: Path) -> None:
    """Also while it starts, while it saves, and before its first checkpoint."""
    run = recipe.parent / "killed"
    chance = random.Random(5)
    for kill in range(KILLS):
        process = start(recipe, run, *(["--resume"] if kill else []))
        wait_for_steps(process, run, chance.randrange(STEPS) if kill else 1)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.wait(60)
    assert start(recipe, run, "--resume").wait(300) == 0
    assert_same(run, undisturbed)
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == ["step-000027", "step-000030"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_finishes_the_step_and_saves(recipe: Path, undisturbed: Path, name: str) -> None:
    run = recipe.parent / name
    process = start(recipe, run)
    wait_for_steps(process, run, 4)
    process.send_signal(signal.Signals[name])
    assert process.wait(60) == 130
    done = len(recipes.losses(run))
    assert 4 <= done < STEPS
    assert (run / "checkpoints" / f"step-{done:06d}" / "state.json").is_file()
    assert not (run / "model").exists()
    assert start(recipe, run, "--resume").wait(300) == 0
    assert_same(run, undisturbed)


def test_a_second_ctrl_c_stops_at_once(recipe: Path) -> None:
    """In the middle of a first step of many seconds: nothing of it is kept."""
    run = recipe.parent / "twice"
    process = start(recipe, run, "--set", "accumulate=2000")
    end = time.monotonic() + 60
    while not (run / "metrics.jsonl").is_file() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert recipes.losses(run) == [] and not (run / "checkpoints").exists()
