"""Processes that learn together (gloo, on a CPU) against one that learns alone: the recipe says
what is learnt, and their number nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recipes

from lucidlm.checkpoint.safetensors import open_safetensors

ROOT = Path(__file__).parent.parent
STEPS, HALF = 50, 20
CLOSE = 1e-5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="gloo and POSIX's signals"),
]

LLAMA = {
    "hidden_size": 40,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 50,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
}
CASES: dict[str, dict[str, Any]] = {
    "adamw": {"optimiser__name": "adamw", "optimiser__rate": 0.003},
    "dropout": {"dropout": 0.2, "label_smoothing": 0.1},
    "checkpointing": {"checkpointing": True, "model__family": "llama", "model__config": LLAMA},
    "t5": {
        "objective": "translate",
        "model__family": "t5",
        "model__config": T5,
        "data__train": [{"path": "pairs.tsv"}],
        "data__held_out": None,
        "data__held_out_share": 0.1,
        "samples": [],
    },
}


def write(folder: Path, **changes: Any) -> Path:
    """A recipe whose steps have four micro-batches, in float32."""
    told = {"steps": STEPS, "batch": 3, "accumulate": 4, "precision": "float32"}
    told |= {"save_every": HALF, "keep": 2, "evaluate_every": 10, "evaluate_rows": 10}
    path = recipes.write(folder, **(told | changes))
    words = (folder / "text.txt").read_text(encoding="utf-8").split()[:3000]
    threes = [words[at : at + 3] for at in range(0, len(words) - 2, 3)]
    pairs = [f"{' '.join(three)}\t{' '.join(reversed(three))}" for three in threes]
    (folder / "pairs.tsv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
    return path


def command(recipe: Path, run: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "lucidlm", "train", str(recipe), "--out", str(run), *options]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def train(recipe: Path, run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(recipe, run, *options),
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def column(run: Path, name: str) -> list[float]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)[name] for line in lines if json.loads(line)[name] is not None]


def assert_alike(run: Path, alone: Path) -> None:
    """The same numbers to rounding, and the same in whole ones."""
    for name in ("loss", "held_out", "gradient_norm"):
        np.testing.assert_allclose(column(run, name), column(alone, name), rtol=0, atol=CLOSE)
    assert column(run, "tokens") == column(alone, "tokens")
    with open_safetensors(run / "model") as ours, open_safetensors(alone / "model") as theirs:
        assert ours.names == theirs.names
        for name in ours.names:
            if name.endswith("bias"):  # a key's has no gradient but rounding, which AdamW follows
                continue
            np.testing.assert_allclose(ours.read(name), theirs.read(name), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process, its recipe and its data beside it."""
    recipe = write(tmp_path_factory.mktemp("devices"))
    done = train(recipe, recipe.parent / "one")
    assert done.returncode == 0, done.stderr
    return recipe.parent / "one"


@pytest.fixture(scope="module")
def two(alone: Path) -> Path:
    """The same in two."""
    run = alone.with_name("two")
    done = train(alone.with_name("recipe.toml"), run, "--processes", "2")
    assert done.returncode == 0, done.stderr
    return run


def test_two_processes_learn_what_one_learns(alone: Path, two: Path) -> None:
    assert_alike(two, alone)


@pytest.mark.parametrize("case", CASES)
def test_of_other_kinds_too(case: str, tmp_path: Path) -> None:
    recipe = write(tmp_path, **CASES[case])
    for run, options in (("one", ()), ("two", ("--processes", "2"))):
        done = train(recipe, tmp_path / run, *options)
        assert done.returncode == 0, done.stderr
    assert_alike(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("count", ["1", "4"])
def test_a_checkpoint_of_two_goes_on_in_one_and_in_four(
    count: str, alone: Path, two: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two, run)
    for later in ("checkpoints/step-000040", "checkpoints/step-000050", "model"):
        shutil.rmtree(run / later)
    recipe = alone.with_name("recipe.toml")
    done = train(recipe, run, "--resume", "--processes", count, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed_from"] == HALF
    assert_alike(run, alone)


def test_an_adapter_is_learnt_together(alone: Path, tmp_path: Path) -> None:
    """LoRA beside a model whose weights are spread too."""
    changes = {"model__family": None, "model__config": None, "model__start": str(alone / "model")}
    changes |= {"tokenizer__kind": None, "tokenizer__vocab_size": None, "lora__rank": 3}
    recipe = write(tmp_path, **changes)
    for run, options in (("one", ()), ("two", ("--processes", "2"))):
        done = train(recipe, tmp_path / run, *options)
        assert done.returncode == 0, done.stderr
    assert_alike(tmp_path / "two", tmp_path / "one")
    with (
        open_safetensors(tmp_path / "two" / "adapter" / "model.safetensors") as ours,
        open_safetensors(tmp_path / "one" / "adapter" / "model.safetensors") as theirs,
    ):
        assert ours.names == theirs.names
        assert any(np.abs(ours.read(name)).max() > 0 for name in ours.names if "lora_b" in name)


def test_narrow_weights_travel(alone: Path, tmp_path: Path) -> None:
    """In bfloat16 a layer's weights are rounded before they are sent, norms too."""
    recipe = write(tmp_path, precision="bfloat16")
    for run, options in (("one", ()), ("two", ("--processes", "2"))):
        done = train(recipe, tmp_path / run, *options)
        assert done.returncode == 0, done.stderr
    one, two = (column(tmp_path / run, "loss") for run in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=0.02)
    assert one != column(alone, "loss")  # it was bfloat16


def test_what_cannot_be_is_said_once(tmp_path: Path) -> None:
    recipe = write(tmp_path)
    uneven = train(recipe, tmp_path / "run", "--processes", "3")
    assert uneven.returncode == 2
    assert uneven.stderr.count("accumulate=6") == 1 and "Traceback" not in uneven.stderr
    assert train(recipe, tmp_path / "run", "--processes", "0").returncode == 2
    wrong = train(recipe, tmp_path / "run", "--processes", "2", "--set", "context=65")
    assert wrong.returncode == 2
    assert wrong.stderr.count("64") == 1 and "Traceback" not in wrong.stderr
    assert not (tmp_path / "run").exists()


def test_a_plan_is_made_together(tmp_path: Path) -> None:
    done = train(write(tmp_path), tmp_path / "run", "--processes", "2", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["steps"] == STEPS and plan["seconds_per_step"] > 0
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_is_diagnosed_once(tmp_path: Path) -> None:
    """The value stands in one process's rows only; the first looks for it in everybody's."""
    recipe = write(tmp_path, optimiser__name="adamw", optimiser__rate=1e30, optimiser__clip=0.0)
    done = train(recipe, tmp_path / "run", "--processes", "2")
    assert done.returncode == 2
    assert done.stderr.count("Last good checkpoint") == 1 and "Traceback" not in done.stderr


def test_one_that_is_killed_ends_all_and_the_run_goes_on(alone: Path, tmp_path: Path) -> None:
    recipe, run = alone.with_name("recipe.toml"), tmp_path / "run"
    started = start(recipe, run, "--processes", "2")
    wait_for_steps(started, run, HALF + 3)
    os.kill(workers(started.pid)[-1], signal.SIGKILL)
    _, said = started.communicate(timeout=120)
    assert started.returncode == 2
    assert "SIGKILL" in said and "--resume" in said and "Traceback" not in said
    done = train(recipe, run, "--processes", "2", "--resume")
    assert done.returncode == 0, done.stderr
    assert_alike(run, alone)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_finishes_the_step_and_saves(name: str, alone: Path, tmp_path: Path) -> None:
    recipe, run = alone.with_name("recipe.toml"), tmp_path / "run"
    started = start(recipe, run, "--processes", "2")
    wait_for_steps(started, run, 4)
    started.send_signal(signal.Signals[name])
    _, said = started.communicate(timeout=120)
    assert started.returncode == 130, said
    assert said.count(name) == 1
    steps = len(column(run, "loss"))
    assert 4 <= steps < STEPS
    assert (run / "checkpoints" / f"step-{steps:06d}" / "state.json").is_file()
    done = train(recipe, run, "--resume")
    assert done.returncode == 0, done.stderr
    assert_alike(run, alone)


def start(recipe: Path, run: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(recipe, run, *options),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def wait_for_steps(process: subprocess.Popen[str], run: Path, count: int) -> None:
    """Until so many lines of metrics are written."""
    lines, end = run / "metrics.jsonl", time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if lines.is_file() and lines.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)
    raise AssertionError(process.communicate(timeout=60))


def workers(launcher: int) -> list[int]:
    """The processes that `launcher` started, by rank."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            told = (place / "environ").read_bytes()
        except OSError:
            continue
        if parent == launcher and (rank := re.search(rb"\0RANK=(\d+)", told)):
            found[int(rank[1])] = int(place.name)
    return [found[rank] for rank in sorted(found)]
