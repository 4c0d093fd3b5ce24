"""Rows of data as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from lucidlm.files import replacing


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Writes one JSON object a line, whole or not at all, and returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with replacing(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count
