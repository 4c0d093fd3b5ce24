"""Small training runs for tests: recipes as files, and data that are learnt in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lucidlm.train.recipe import Recipe, read_recipe

TEXT = Path(__file__).parent.parent / "lucidlm" / "text" / "data" / "corpus.en.txt"

CHARACTERS: dict[str, Any] = {
    "name": "characters",
    "steps": 120,
    "batch": 8,
    "context": 48,
    "save_every": 50,
    "evaluate_every": 40,
    "evaluate_rows": 32,
    "sample_every": 60,
    "samples": ["The "],
    "model.family": "gpt2",
    "model.config": {"n_layer": 2, "n_embd": 48, "n_head": 4, "n_positions": 64},
    "tokenizer.kind": "char",
    "tokenizer.vocab_size": 512,
    "data.train": [{"path": "text.txt"}],
    "data.held_out": [{"path": "held_out.txt"}],
    "optimiser.name": "muon",
    "optimiser.rate": 0.01,
    "schedule.warmup": 10,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Where it is imported: matrices this small are no faster with two, and far slower on a busy
    machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write(folder: Path, **changes: Any) -> Path:
    """A recipe for a model of characters, with `changes` (a dot in a key is written __), and its
    data beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = TEXT.read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    (folder / "text.txt").write_text(text[:cut], encoding="utf-8")
    (folder / "held_out.txt").write_text(text[cut:], encoding="utf-8")
    told = CHARACTERS | {name.replace("__", "."): value for name, value in changes.items()}
    lines = [f"{key} = {toml(value)}" for key, value in told.items() if value is not None]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(folder: Path, **changes: Any) -> Recipe:
    """The same as the loop takes it."""
    return read_recipe(write(folder, **changes))


def toml(value: Any) -> str:
    """A value as TOML writes it; its strings, numbers and lists are JSON's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def losses(run: Path) -> list[float]:
    """The loss of every step, by a reader of the file's own."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]
