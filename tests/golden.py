"""Hugging Face's model and ours with the same random weights, which golden tests start from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers

from lucidlm.checkpoint.load import Checkpoint, open_checkpoint
from lucidlm.engine import ForwardContext
from lucidlm.families import families
from lucidlm.families.family import HF
from lucidlm.model.engine import TorchEngine, build
from lucidlm.model.position import sinusoids

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
# Shapes beside those of the families, for tests that need one.
MORE: dict[tuple[str, str], HF] = {
    ("gemma", "published pattern"): {
        "model_type": "gemma3_text",
        "num_hidden_layers": 7,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "intermediate_size": 48,
        "vocab_size": 61,
        "max_position_embeddings": 64,
        "sliding_window": 5,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
}
CASES = [(family.name, shape) for family in families().values() for shape in family.tiny]
WIDTH, SOURCE_WIDTH, VOCAB = 17, 11, 61  # of the test input; every tiny config has this vocabulary
FLOAT32 = torch.float32  # by this name it stays what it is inside `widened`


@dataclass(frozen=True)
class Golden:
    """One family in one shape, theirs and ours, and an input for both."""

    hf: HF
    theirs: Any  # float64
    folder: Path  # where they saved it, in float32, which holds every weight exactly
    checkpoint: Checkpoint
    ids: torch.Tensor  # (2, WIDTH)
    source: torch.Tensor | None  # (2, SOURCE_WIDTH), for an encoder-decoder

    def engine(self, dtype: str = "float32") -> TorchEngine:
        read = np.float64 if dtype == "float64" else np.float32
        return build(self.checkpoint.config, self.checkpoint.weights(read), dtype)

    def their_output(self, model: Any, ids: torch.Tensor | None = None) -> torch.Tensor:
        """Logits, or last vectors where there is no head."""
        ids = self.ids if ids is None else ids
        inputs = {"input_ids": ids}
        if self.source is not None:
            inputs = {"input_ids": self.source, "decoder_input_ids": ids}
        with torch.inference_mode():
            out = model(**inputs)
        for name in ("logits", "prediction_logits", "last_hidden_state"):
            if hasattr(out, name):
                found: torch.Tensor = getattr(out, name)
                return found
        raise AssertionError(type(out))

    def our_output(self, engine: TorchEngine, ids: torch.Tensor | None = None) -> torch.Tensor:
        """The same of ours, in the engine's own precision."""
        ids = self.ids if ids is None else ids
        model, ctx = engine.model, ForwardContext()
        with torch.inference_mode():
            if model.head is not None:
                return model(ids, ctx, self.source)
            lengths = torch.full((len(ids),), ids.shape[1])
            return model.encode(ids, lengths, ctx)


@cache
def golden(family: str, shape: str) -> Golden:
    """The golden pair of one case, made once a process."""
    hf = dict(MORE.get((family, shape)) or families()[family].tiny[shape])
    theirs = hugging_face(hf)
    folder = Path(tempfile.mkdtemp())
    save(theirs, folder)
    checkpoint = open_checkpoint(str(folder))
    numbers = torch.Generator().manual_seed(1)
    ids = torch.randint(2, VOCAB, (2, WIDTH), generator=numbers)
    source = torch.randint(2, VOCAB, (2, SOURCE_WIDTH), generator=numbers)
    two = checkpoint.config.kind == "encoder-decoder"
    return Golden(hf, theirs, folder, checkpoint, ids, source if two else None)


def hugging_face(hf: HF, seed: int = 0) -> Any:
    """Their model in float64 and eval mode, every weight, norm and bias moved off its default."""
    hf = dict(hf)
    name = (hf.get("architectures") or [CLASSES[hf["model_type"]]])[0]
    config = transformers.AutoConfig.for_model(**hf)
    config._attn_implementation = "eager"
    model = getattr(transformers, name)(config).double().eval()
    if hf.get("tie_word_embeddings") is False and hf["model_type"] == "t5":
        # this release ties T5's head whatever the file says
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            if hf["model_type"] == "marian" and "embed_positions" in name:
                # theirs are kept in float32; these are the same to the last digit
                rows = torch.arange(weight.shape[0])[None]
                weight.copy_(sinusoids(rows, weight.shape[1], torch.float64)[0])
            elif isinstance(weight, torch.nn.Parameter) or name.endswith("final_logits_bias"):
                is_scale = weight.ndim == 1 and "norm" in name.lower() and name.endswith("weight")
                noise = torch.randn(weight.shape, generator=numbers, dtype=torch.float64)
                # values that float32 holds exactly, so that both precisions have the same ones
                weight.copy_((float(is_scale) + 0.2 * noise).to(FLOAT32))
    return model


def save(model: Any, folder: Path) -> None:
    """Their checkpoint folder, in float32."""
    model.float().save_pretrained(folder)
    model.double()


@contextmanager
def widened() -> Iterator[None]:
    """Hugging Face computes in float64 throughout: where its code says float32, it is float64."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with (
            mock.patch.object(torch, "float32", torch.float64),
            mock.patch.object(torch, "float", torch.float64),
            mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
        ):
            yield
    finally:
        torch.set_default_dtype(default)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """max |ours - theirs| / max |theirs|"""
    most = (ours.double() - theirs.double()).abs().max().item()
    return most and most / theirs.double().abs().max().item()
