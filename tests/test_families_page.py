"""docs/families.md speaks of the cases that the golden tests run, and its figures keep their
bounds.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from golden import CASES

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", ["families.md", "zh/families.md"])
def test_every_case_is_there_within_its_bounds(page: str) -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \| (\S+) \| (\S+) \| (\S+) \|$",
        (DOCS / page).read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    measured = [row for row in rows if row[0] not in ("case", "情形", "---")]
    assert [row[0] for row in measured] == [shape for _, shape in CASES]
    for shape, narrow, wide, exact in measured:
        assert float(narrow) < 1e-5 and float(wide) < 1e-6 and float(exact) < 1e-10, shape
