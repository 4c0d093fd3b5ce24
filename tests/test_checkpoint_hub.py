"""The hub without a network: what goes wrong there becomes one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lucidlm.checkpoint.hub import fetch_from_hub
from lucidlm.errors import CheckpointError, MissingExtra


def test_the_hub_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra) as error:
        fetch_from_hub("owner/model")
    assert "lucidlm[hub]" in str(error.value)


def hub_errors() -> dict[str, Callable[[], Exception]]:
    from huggingface_hub import errors

    return {
        "hub_no_network": lambda: errors.LocalEntryNotFoundError("not cached"),
        "hub_unknown": lambda: errors.HFValidationError("bad id"),
        "hub_failed": lambda: OSError("certificate\nexpired"),
    }


@pytest.mark.parametrize("key", ["hub_no_network", "hub_unknown", "hub_failed"])
def test_what_the_hub_says_becomes_one_sentence(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def fail(*args: object, **kwargs: object) -> str:
        raise hub_errors()[key]()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError) as error:
        fetch_from_hub("owner/model")
    assert error.value.key == f"checkpoint.{key}"
    assert "owner/model" in str(error.value) and "\n" not in str(error.value)


def test_only_files_that_hold_data_are_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: dict[str, Any] = {}

    def record(repo_id: str, **options: Any) -> str:
        asked.update(options)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", record)
    assert fetch_from_hub("owner/model", revision="main") == tmp_path
    assert asked["revision"] == "main"
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in asked["allow_patterns"])
