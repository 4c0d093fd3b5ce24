"""docs/lessons.md shows what the program shows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "make_lessons_docs.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lessons_docs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_is_current(script: ModuleType, lang: str) -> None:
    """Else run scripts/make_lessons_docs.py."""
    assert script.PATHS[lang].read_text(encoding="utf-8") == script.page(lang)
