"""Graded sentences with translations (CC-BY-SA-4.0, hsk-sentences-audio), and word glosses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.data.cedict import plain_gloss
from models.data.holdout import allowed_pair, normalised

HELD_OUT = 250  # pairs that no shipped model learns from

_TYPEWRITER = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "—": " - ", "–": "-", "é": "e", "…": "..."}
)


@dataclass(frozen=True)
class Pair:
    """A Chinese text and its English."""

    source: str
    target: str


def pairs(path: Path) -> list[Pair]:
    """Every sentence with a translation, once, as they stand in `sentences.json`."""
    found: dict[str, Pair] = {}
    for card in _cards(path):
        source = card["chinese"].strip()
        target = _straight(card["translation"].get("en") or "").strip()
        unfinished = target.startswith("placeholder") or target in ("", "PH")
        if not unfinished and target.isascii() and allowed_pair(source, target):
            found.setdefault(source, Pair(source, target))
    return list(found.values())


def split(all_pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """To learn from, and the `HELD_OUT` pairs whose Chinese comes first in the stable order."""
    order = sorted(all_pairs, key=lambda pair: _place(pair.source))
    chosen = set(order[:HELD_OUT])
    return [pair for pair in all_pairs if pair not in chosen], order[:HELD_OUT]


def glosses(path: Path) -> dict[str, str]:
    """Word -> the first plain meaning of its gloss, for the words of the sentences."""
    found: dict[str, str] = {}
    for card in _cards(path):
        for token in card["tokens"]:
            meaning = next(filter(None, map(plain_gloss, token["gloss_en"].split("; "))), None)
            if meaning is not None:
                found.setdefault(token["word"], meaning)
    return found


def _place(text: str) -> bytes:
    return hashlib.blake2b(normalised(text).encode(), digest_size=8).digest()


def _cards(path: Path) -> list[dict[str, Any]]:
    cards: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return cards


def _straight(text: str) -> str:
    """Typewriter quotes and dashes, which are what a small vocabulary should learn."""
    return " ".join(text.translate(_TYPEWRITER).split())
