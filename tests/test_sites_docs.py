"""docs/sites.md shows every site there is, as the table of sites has it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from lucidlm.trace.rows import ROWS

SCRIPT = Path(__file__).parent.parent / "scripts" / "make_sites_docs.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sites_docs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_is_current(script: ModuleType, lang: str) -> None:
    """Else run `make sites-docs`."""
    assert script.PATHS[lang].read_text(encoding="utf-8") == script.page(lang)


def test_every_row_is_on_it(script: ModuleType) -> None:
    assert {key.partition(".")[0] for key in ROWS} == set(script.GROUPS)
    assert {axis for row in ROWS.values() for axis in row.axes} == set(script.AXES)
    lines = script.page("en").splitlines()
    assert sum(any(f"`{row.equation}`" in line for line in lines) for row in ROWS.values()) == len(
        ROWS
    )
    assert script.sites().keys() == ROWS.keys()
