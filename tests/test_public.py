"""The public names, pinned: one more or one less is a visible decision."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path

import pytest

import lucidlm

NAMES = [
    *("Add", "Config", "LucidError", "Mean", "Model", "NGram", "Patch", "Scale", "Trace"),
    *("WordVectors", "Zero", "__version__", "load"),
]
VERBS = {"generate", "stream", "translate", "fill", "embed", "trace"}
ASKED = {"explain", "verify", "why", "lens", "attribute", "heads", "surprise", "diff", "save"}


def test_the_public_names() -> None:
    assert lucidlm.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(lucidlm, name)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'lucidlm' has no attribute 'pickle'"):
        lucidlm.pickle  # noqa: B018


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))
    assert lucidlm.__version__ == project["project"]["version"]


def test_the_verbs_of_a_model() -> None:
    public = {name for name, _ in inspect.getmembers(lucidlm.Model) if not name.startswith("_")}
    assert public >= VERBS


def test_the_verbs_of_a_trace() -> None:
    assert {name for name in dir(lucidlm.Trace) if not name.startswith("_")} >= ASKED
