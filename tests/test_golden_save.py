"""What we save, transformers loads, with the same logits; what they saved we give back bit for
bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from golden import CLASSES, difference, golden
from safetensors.numpy import load_file
from shapes import marked

from lucidlm.checkpoint.load import open_checkpoint
from lucidlm.checkpoint.save import save_checkpoint


def opened_by_them(folder: Path) -> Any:
    hf = json.loads((folder / "config.json").read_text())
    name = (hf.get("architectures") or [CLASSES[hf["model_type"]]])[0]
    model, report = getattr(transformers, name).from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    assert not report["unexpected_keys"]
    # next-sentence prediction is theirs alone
    assert all(key.startswith("cls.seq_relationship") for key in report["missing_keys"]), report
    return model.double().eval()


@pytest.mark.parametrize(("family", "shape"), marked())
def test_save_then_transformers_loads(family: str, shape: str, tmp_path: Path) -> None:
    case = golden(family, shape)
    held = case.checkpoint
    weights = dict(case.engine().weights())
    save_checkpoint(tmp_path, held.family, held.config, weights, held.hints)

    again = open_checkpoint(str(tmp_path))
    assert again.config == held.config
    assert again.hints.end == held.hints.end

    before = load_file(case.folder / "model.safetensors")
    after = load_file(tmp_path / "model.safetensors")
    for name in before.keys() & after.keys():
        np.testing.assert_array_equal(before[name], after[name])

    theirs = opened_by_them(tmp_path)
    assert difference(case.their_output(theirs), case.their_output(case.theirs)) < 1e-6
