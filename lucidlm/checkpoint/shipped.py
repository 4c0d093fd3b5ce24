"""The small models inside the package: folders like any checkpoint's, each with its card.

They were trained by the recipes under `models/` of the source tree; `card.json` holds what was
measured, of which weights, and under which licence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

FOLDER = Path(__file__).parent.parent / "shipped"
CARD = "card.json"


@dataclass(frozen=True)
class Shipped:
    """One model of the package."""

    name: str
    folder: Path

    @property
    def about(self) -> str:
        """Key of the sentence that says what the model is."""
        return f"pull.about_{self.name}"

    @property
    def card(self) -> Mapping[str, Any]:
        """What is known of the weights: `licence`, `sha256`, `recipe`, `seed`, `figures`, ..."""
        found: dict[str, Any] = json.loads((self.folder / CARD).read_text(encoding="utf-8"))
        return found

    @property
    def licence(self) -> str:
        return str(self.card["licence"])

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


@cache
def shipped() -> Mapping[str, Shipped]:
    """The package's own models by name; "mini" first, which answers when none is named."""
    cards = FOLDER.glob(f"*/{CARD}")
    names = sorted((path.parent.name for path in cards), key=lambda name: (name != "mini", name))
    return MappingProxyType({name: Shipped(name, FOLDER / name) for name in names})
