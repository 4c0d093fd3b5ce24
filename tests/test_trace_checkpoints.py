"""The glass on real models: every number is right, and says where it came from."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import lucidlm
from lucidlm.cli.main import main
from lucidlm.trace.operations import cell
from lucidlm.trace.trace import Trace

FIELDS = ["model", "positions", "sites", "values", "max_relative", "worst_address", "failed"]
PROMPT = "The capital of France is"
NAMES = ("smollm2-135m", "minilm-l6", "gemma3-270m")
Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.checkpoint(name)) for name in NAMES]
)
def test_every_number_of_a_real_model_follows(name: str, capsys: Capture) -> None:
    found = json.loads(printed(capsys, "verify", "--model", name, PROMPT, "--json"))
    assert list(found) == FIELDS and found["failed"] == 0 and found["model"] == name
    assert found["positions"] >= 5 and found["sites"] > 100 and found["values"] > 10**5
    assert 0 < found["max_relative"] < 1e-4


@cache
def smollm() -> Trace:
    return lucidlm.load("smollm2-135m").trace(PROMPT)


def cells(trace: Trace, count: int, seed: int) -> list[str]:
    """Addresses anywhere in a run."""
    numbers = random.Random(seed)
    sites = [site for site in trace.catalogue.values() if site.part != "tokenizer"]
    found = []
    for site in numbers.sample(sites, count):
        place = [numbers.randrange(size) for size in np.shape(trace.read(site.address))]
        place[0] += trace.start(site.address)
        found.append(cell(site.address, *zip(site.axes, place, strict=True)))
    return found


@pytest.mark.slow
@pytest.mark.checkpoint("smollm2-135m")
@pytest.mark.parametrize("number", range(10))
def test_a_printed_script_makes_the_number_with_numpy_alone(
    number: int, tmp_path: Path, capsys: Capture
) -> None:
    """Ten addresses; each script in a process that has no lucidlm and no PyTorch."""
    address = cells(smollm(), 10, seed=2026)[number]
    operands = tmp_path / "operands.npz"
    ask = ("explain", "--model", "smollm2-135m", PROMPT, address)
    found = json.loads(printed(capsys, *ask, "--json"))
    assert found["address"] == address and found["agrees"] is True
    script = printed(capsys, *ask, "--numpy", str(operands))
    assert set(re.findall(r"^(?:import|from) (\w+)", script, re.MULTILINE)) <= {"numpy"}
    alone = "import sys\nsys.modules.update(lucidlm=None, torch=None)\n"
    done = subprocess.run(
        [sys.executable, "-c", alone + script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    made = float({"True": "1", "False": "0"}.get(done.stdout.strip(), done.stdout))
    assert made == pytest.approx(float(found["total"]), rel=1e-12, nan_ok=True), address
    recorded = float(smollm()[address])
    assert made == pytest.approx(recorded, rel=1e-4, abs=1e-5, nan_ok=True), address
