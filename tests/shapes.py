"""The shapes of every family as parameters of tests: those here differ in kind and are fast, the
others take their turn with the slow tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from golden import CASES

from lucidlm.config import Config
from lucidlm.families import families

Shape = tuple[str, str]
FAST = {
    ("bart", "bart"),
    ("bart", "marian"),
    ("bert", "both"),
    ("bert", "sentence encoder"),
    ("gemma", "local and global"),
    ("gpt2", "plain"),
    ("llama", "llama 3"),
    ("llama", "qwen3"),
    ("t5", "v1.1"),
}
assert set(CASES) >= FAST and {family for family, _ in FAST} == set(dict(CASES))


def config(shape: Shape) -> Config:
    """What a shape is read as."""
    family = families()[shape[0]]
    return family.read(dict(family.tiny[shape[1]]))


def marked(shapes: Iterable[Shape] = CASES) -> list[Any]:
    """For `@pytest.mark.parametrize(("family", "shape"), ...)`."""
    return [pytest.param(*shape, marks=_marks(shape)) for shape in shapes]


def marked_pairs(shapes: Iterable[Shape] = CASES) -> list[Any]:
    """For `@pytest.mark.parametrize("case", ...)`, which gets both as one."""
    return [pytest.param(shape, marks=_marks(shape), id=" ".join(shape)) for shape in shapes]


def _marks(shape: Shape) -> tuple[pytest.MarkDecorator, ...]:
    return () if shape in FAST else (pytest.mark.slow,)


WRITERS = [shape for shape in CASES if config(shape).kind != "encoder"]
WITH_HEAD = [shape for shape in CASES if config(shape).head is not None]
