"""The examples run, at small sizes: a model of one's own text, a tokenizer, SmolLM2 taught, and the
way `mini` is made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random

import pytest

import lucidlm
from lucidlm.cli.main import main
from models.data.chats import chat, translations
from models.everyday.facts.facts import questions
from models.everyday.grammar import pairs

ROOT = Path(__file__).parent.parent
Capture = pytest.CaptureFixture[str]


def train(capsys: Capture, recipe: str, out: Path, *changes: str) -> Path:
    """Run a recipe with `changes`; returns the model's folder."""
    options = [option for change in changes for option in ("--set", change)]
    assert main(["train", str(ROOT / recipe), "--out", str(out), "--json", *options]) == 0
    return Path(json.loads(capsys.readouterr().out)["model"])


def test_a_character_model_of_a_text(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("the cat sat on the mat. " * 200, encoding="utf-8")
    folder = train(
        capsys,
        "examples/characters/recipe.toml",
        tmp_path / "run",
        f'data.train=[{{path="{tmp_path / "my.txt"}"}}]',
        "steps=3",
        "batch=2",
        "compile=off",
    )
    assert len(lucidlm.load(str(folder)).generate("the ", max_new_tokens=4).ids) == 4


def test_a_tokenizer_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("我很开心。\nthe cat sat\n" * 50, encoding="utf-8")
    script = ROOT / "examples" / "tokenizer.py"
    arguments = [str(tmp_path / "my.txt"), "我很 the cat", str(tmp_path / "made")]
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=True
    )
    assert "我 | 很" in done.stdout
    assert (tmp_path / "made" / "tokenizer.json").is_file()


def test_mini_is_made_like_this(capsys: Capture, tmp_path: Path) -> None:
    """Its own recipe, on a little of what the project itself wrote."""
    some = list(islice(pairs(1, 120), 120))
    asked = list(questions(held_out=False))[:40]
    rows = [*translations(some, "en", Random(1)), *(chat([(q.question, q.answer)]) for q in asked)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = train(
        capsys,
        "models/mini/recipe.toml",
        tmp_path / "run",
        f'data.train=[{{path="{data}"}}]',
        "data.held_out=[]",
        "tokenizer.vocab_size=400",
        "model.config.num_hidden_layers=1",
        "steps=2",
        "batch=2",
        "compile=off",
    )
    model = lucidlm.load(str(folder))
    ends = {model.tokenizer.bytes_of(id) for id in model.end}
    assert ends == {b"<|endoftext|>", b"<|end|>"}
    assert model.chat([{"role": "user", "content": "翻译:你好"}], max_new_tokens=2).ids


@pytest.mark.slow
@pytest.mark.checkpoint("smollm2-135m")
def test_a_real_model_is_taught(capsys: Capture, tmp_path: Path) -> None:
    folder = train(
        capsys,
        "examples/finetune/recipe.toml",
        tmp_path / "run",
        "steps=2",
        "batch=1",
        "sample_every=0",
        "evaluate_rows=2",
    )
    assert (folder.parent / "adapter" / "adapter.json").is_file()
    taught = lucidlm.load(str(folder))
    assert taught.generate("The capital of France is", max_new_tokens=1).text == " Paris"
