"""Chinese sentences for `cloze-zh`, a small BERT that fills in characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from models.data.holdout import allowed_text, is_held_out, normalised
from models.data.rows import write_rows

SHARE = 0.02  # of the sentences besides those that are held out everywhere


def write_cloze(
    folder: Path, natural: Iterable[str], grammar: Iterable[str], held_out: Sequence[str]
) -> dict[str, int]:
    """Writes `train.jsonl` (natural sentences), `grammar.jsonl` and `held_out.jsonl`, and counts.

    Each sentence is written once. `held_out` are those that no model learns from; a share of the
    natural ones goes with them, and the same share of the grammar's is left out.
    """
    aside = set(map(normalised, held_out))
    seen: set[str] = set()

    def new(sentences: Iterable[str]) -> list[str]:
        found = [
            text
            for text in dict.fromkeys(sentences)
            if text and text not in seen and allowed_text(text) and normalised(text) not in aside
        ]
        seen.update(found)
        return found

    sentences = new(natural)
    learnt = [text for text in sentences if not is_held_out(text, SHARE)]
    kept = (text for text in sentences if is_held_out(text, SHARE))
    made = (text for text in new(grammar) if not is_held_out(text, SHARE))
    files = {"train": learnt, "grammar": made, "held_out": chain(held_out, kept)}
    return {
        name: write_rows(folder / f"{name}.jsonl", ({"text": text} for text in texts))
        for name, texts in files.items()
    }
