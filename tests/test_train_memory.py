"""The memory that a run says it needs, against what it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import recipes

ROOT = Path(__file__).parent.parent

# Two small matrix products first: what libraries take once is no part of the run.
CODE = """
import json, resource, sys
from pathlib import Path
import torch
from lucidlm.train import loop
from lucidlm.train.recipe import read_recipe

torch.set_num_threads(1)
x = torch.randn(64, 64, requires_grad=True)
(x @ x).softmax(-1).sum().backward()
torch.optim.AdamW([x], fused=True).step()
found = {}

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def noted(*given, fits=loop._fits):
    found["before"] = resident()
    needs = fits(*given)
    found["needed"] = needs.needed
    return needs

loop._fits = noted
path = Path(sys.argv[1])
loop.plan(read_recipe(path), path.parent)
status = Path("/proc/self/status").read_text()  # `ru_maxrss` would count the parent's memory too
found["peak"] = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(json.dumps(found))
"""
GPT = {"n_layer": 6, "n_embd": 256, "n_head": 4, "n_positions": 256}
LLAMA = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
SHAPES: dict[str, dict[str, Any]] = {
    "activations": {"model__config": GPT, "batch": 16, "context": 192},
    "dropout": {"model__config": GPT, "batch": 8, "context": 192, "dropout": 0.1},
    "rotary": {"model__family": "llama", "model__config": LLAMA, "batch": 16, "context": 192},
    "weights": {
        "model__config": GPT | {"n_embd": 768, "n_head": 12},
        "batch": 1,
        "context": 16,
        "optimiser__name": "adamw",
    },
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimate_is_within_a_quarter(shape: str, tmp_path: Path) -> None:
    changes = {"precision": "float32", "compile": "off", "accumulate": 1} | SHAPES[shape]
    path = recipes.write(tmp_path, **changes)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path)],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    taken = found["peak"] - found["before"]
    assert 0.75 < found["needed"] / taken < 1.25, (found["needed"] / 1e6, taken / 1e6)
