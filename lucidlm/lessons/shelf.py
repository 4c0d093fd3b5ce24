"""The lessons there are, found without running any: their order, their prose and their scripts.

A lesson is a folder here: `__init__.py` (its `ORDER` in the list), `lesson.py` (a `LESSON`),
`en.md`, `zh.md` and `code.py`.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from lucidlm.errors import UnknownName
from lucidlm.lessons.page import Page, parse

HERE = Path(__file__).parent
PACKAGE = __name__.rpartition(".")[0]


@cache
def names() -> tuple[str, ...]:
    """Every lesson, in the order to take them."""
    return tuple(sorted(_folders(), key=lambda name: (_order(name), name)))


def page(name: str, lang: str) -> Page:
    """A lesson's prose."""
    return parse((folder(name) / f"{lang}.md").read_text(encoding="utf-8"))


def code(name: str) -> str:
    """The script that goes with a lesson."""
    return (folder(name) / "code.py").read_text(encoding="utf-8")


def module(name: str) -> str:
    """The package that a lesson is. Raises UnknownName with the nearest ones."""
    return f"{PACKAGE}.{folder(name).name}"


def folder(name: str) -> Path:
    """Where a lesson lies. Raises UnknownName with the nearest ones."""
    if name not in _folders():
        raise UnknownName("lessons.unknown", name, names())
    return HERE / _folders()[name]


def _order(name: str) -> int:
    found: int = importlib.import_module(module(name)).ORDER
    return found


@cache
def _folders() -> dict[str, str]:
    """Lessons by name, and their folders."""
    found = (path.parent.name for path in HERE.glob("*/lesson.py"))
    return {folder.replace("_", "-"): folder for folder in found}
