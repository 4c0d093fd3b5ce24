"""Ten thousand damaged tokenizer.json: no crash, no hang, no more than a gigabyte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lucidlm.text.builtin import DATA

PROGRAM = Path(__file__).with_name("fuzz_tokenizer.py")  # a crash would take the tests along


def fuzz(folder: Path, count: int, seed: int) -> int:
    sources = [str(DATA / kind / "tokenizer.json") for kind in ("bpe", "wordpiece", "unigram")]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), json.dumps(sources), str(count), str(seed)],
        capture_output=True,
        text=True,
        timeout=30 + count / 10,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


def test_a_few_damaged_files(tmp_path: Path) -> None:
    assert 0 < fuzz(tmp_path, 300, 1) < 300


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path: Path) -> None:
    assert 0 < fuzz(tmp_path, 10_000, 2) < 10_000
