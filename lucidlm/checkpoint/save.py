"""A model back to disk in Hugging Face's layout, so that `transformers` opens the result and gets
the same logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lucidlm.checkpoint.convert import write_weights
from lucidlm.checkpoint.load import Hints
from lucidlm.checkpoint.safetensors_write import FloatType, write_safetensors
from lucidlm.config import Config
from lucidlm.errors import CheckpointError
from lucidlm.families.family import Family
from lucidlm.files import write_atomic


def save_checkpoint(
    folder: Path,
    family: Family,
    config: Config,
    weights: Mapping[str, NDArray[np.floating]],
    hints: Hints,
    *,
    dtype: FloatType = "F32",
) -> None:
    """Write config.json, generation_config.json and the weights by address into `folder`.

    The config is written last: a folder without one is not a model, so an interrupted save cannot
    be mistaken for one.
    """
    hf = family.write(config) | _said(hints)
    hf["dtype"] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}[dtype]
    write_safetensors(folder, write_weights(weights, family.rules(config), config), dtype=dtype)
    _write_json(folder / "generation_config.json", _said(hints) | _search(hints))
    _write_json(folder / "config.json", hf)


def _said(hints: Hints) -> dict[str, Any]:
    end = sorted(hints.end)
    ids = {
        "bos_token_id": hints.bos,
        "eos_token_id": end[0] if len(end) == 1 else end or None,
        "pad_token_id": hints.pad,
        "decoder_start_token_id": hints.decoder_start,
        "forced_bos_token_id": hints.forced_bos,
    }
    return {key: value for key, value in ids.items() if value is not None}


def _search(hints: Hints) -> dict[str, Any]:
    search: dict[str, Any] = {}
    if hints.beams > 1:
        search |= {"num_beams": hints.beams, "length_penalty": hints.length_penalty}
        search["early_stopping"] = hints.early_stopping
    if hints.suppressed:
        search["bad_words_ids"] = [[id] for id in sorted(hints.suppressed)]
    return search


def _write_json(path: Path, content: dict[str, Any]) -> None:
    try:
        write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise CheckpointError(
            "checkpoint.cannot_write", path=str(path), reason=error.strerror
        ) from None
