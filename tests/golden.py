"""Hugging Face's model and ours with the same random weights: what every golden test starts from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from lucidlm.checkpoint.convert import read_weights
from lucidlm.families import families
from lucidlm.families.family import HF, Family
from lucidlm.model.engine import TorchEngine, build

CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "bert": "BertForMaskedLM",
    "t5": "T5ForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
    "marian": "MarianMTModel",
}
CASES = [(family.name, shape) for family in families().values() for shape in family.tiny]


def hugging_face(hf: HF, seed: int = 0) -> Any:
    """Their model in float64 and eval mode, every weight, norm and bias moved off its default."""
    hf = dict(hf)
    name = (hf.get("architectures") or [CLASSES[hf["model_type"]]])[0]
    config = transformers.AutoConfig.for_model(**hf)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = getattr(transformers, name)(config).double().eval()
    untied = hf.get("tie_word_embeddings") is False
    if untied and hf["model_type"] == "t5":  # this release ties T5's head whatever the file says
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    with torch.no_grad():
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            if "embed_positions" in name and hf["model_type"] == "marian" or not weight.is_floating_point():
                continue
            if isinstance(weight, torch.nn.Parameter) or name.endswith("final_logits_bias"):
                centre = 1.0 if weight.ndim == 1 and "norm" in name.lower() and name.endswith("weight") else 0.0
                # values that float32 holds exactly, so that a float64 model has the same ones
                weight.copy_((centre + 0.3 * torch.randn_like(weight)).float())
    return model


def saved(model: Any, folder: Path) -> Path:
    """Their checkpoint folder, in float32."""
    model.float().save_pretrained(folder)
    model.double()
    return folder


def ours(folder: Path, dtype: str = "float32") -> tuple[Family, TorchEngine]:
    """Our engine from a folder that they saved."""
    from lucidlm.checkpoint.safetensors import open_safetensors
    from lucidlm.families import by_model_type

    hf = json.loads((folder / "config.json").read_text())
    family = by_model_type(hf)
    config = family.read(hf)
    read = np.float64 if dtype == "float64" else np.float32
    with open_safetensors(folder) as source:
        weights = read_weights(
            source, family.rules(config), config, prefix=family.prefix, ignored=family.ignored, dtype=read
        )
        return family, build(config, weights, dtype)
