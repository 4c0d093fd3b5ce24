"""Chinese sentences for `cloze-zh`, a small BERT that fills in characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from models.data.holdout import allowed_text, is_held_out
from models.data.rows import write_rows

SHARE = 0.02  # of the sentences besides those that are held out everywhere


def write_cloze(
    folder: Path, sentences: Iterable[str], held_out: Sequence[str] = ()
) -> dict[str, int]:
    """`train.jsonl` and `held_out.jsonl`, each sentence once, and how many rows they have.

    `held_out` are sentences that no model learns from; a share of the others is added to them.
    """
    aside = set(held_out)
    kept = [text for text in dict.fromkeys([*held_out, *sentences]) if text and allowed_text(text)]
    chosen = {text for text in kept if text in aside or is_held_out(text, SHARE)}
    return {
        "train": write_rows(
            folder / "train.jsonl", ({"text": text} for text in kept if text not in chosen)
        ),
        "held_out": write_rows(
            folder / "held_out.jsonl", ({"text": text} for text in kept if text in chosen)
        ),
    }
