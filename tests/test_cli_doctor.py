"""`doctor`, and `--engine`: what computes, and why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lucidlm.backends import native
from lucidlm.cli.main import main

built = pytest.mark.skipif(native.missing(), reason="the native engine was not built")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(list(arguments)) == 0
    return json.loads(capsys.readouterr().out)


@built
def test_doctor_names_the_engines(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "doctor", "--json")
    assert found["used"] == "native" and found["engines"]["torch"]["version"]
    assert found["engines"]["native"]["instructions"] == found["engines"]["native"]["available"][0]
    assert found["engines"]["native"]["available"][-1] == "portable"
    for lang in ("en", "zh"):
        assert main(["doctor", "--lang", lang]) == 0
        shown = capsys.readouterr().out
        assert found["engines"]["native"]["instructions"] in shown and "LUCIDLM_NATIVE" not in shown


def test_doctor_says_why_one_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIDLM_NATIVE", "0")
    found = said(capsys, "doctor", "--json")
    assert found["engines"]["native"] is None and found["used"] == "torch"
    assert main(["doctor"]) == 0
    assert "LUCIDLM_NATIVE" in capsys.readouterr().out
    assert main(["run", "x", "--engine", "native"]) == 2
    assert "C++" in capsys.readouterr().err


@built
def test_the_shipped_models_answer_on_every_engine(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["translate", "我爱你"], ["fill", "我很[MASK]心。"]):
        answers = [said(capsys, *arguments, "--engine", e, "--json") for e in ("torch", "native")]
        if arguments[0] == "translate":
            assert answers[0]["text"] == answers[1]["text"] == "I love you"
        else:
            firsts = [json.dumps(answer, ensure_ascii=False) for answer in answers]
            assert all("开" in first for first in firsts)


def test_an_unknown_engine_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x", "--engine", "nativ"]) == 2
    assert "native" in capsys.readouterr().err


@built
def test_the_shipped_model_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    """Its weights are bfloat16: an engine with dot products of these rounds its vectors."""
    assert said(capsys, "verify", "我很", "--engine", "native", "--json")["failed"] == 0
