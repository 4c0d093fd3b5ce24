"""GGUF files of every architecture that has one: transformers reads the same file and gets the same
logits.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from golden import difference, golden
from hypothesis import given
from hypothesis import strategies as st

from lucidlm.checkpoint.convert import write_weights
from lucidlm.checkpoint.load import open_checkpoint
from lucidlm.engine import ForwardContext
from lucidlm.errors import LucidError
from lucidlm.families import by_architecture
from lucidlm.model.engine import build

CASES = [
    ("llama", "llama", "llama 2"),
    ("llama", "llama", "smollm"),
    ("llama", "llama", "wide heads"),
    ("qwen2", "llama", "qwen2"),
    ("qwen3", "llama", "qwen3"),
    ("gemma3", "gemma", "published pattern"),
    ("gpt2", "gpt2", "plain"),
]


def metadata(architecture: str, hf: dict[str, Any]) -> dict[str, Any]:
    """What llama.cpp's converter writes about such a model."""
    dim = hf.get("hidden_size", hf.get("n_embd"))
    heads = hf.get("num_attention_heads", hf.get("n_head"))
    keys = {
        "context_length": hf.get("max_position_embeddings", hf.get("n_positions")),
        "embedding_length": dim,
        "block_count": hf.get("num_hidden_layers", hf.get("n_layer")),
        "feed_forward_length": hf.get("intermediate_size", 4 * dim),
        "attention.head_count": heads,
    }
    if architecture == "gpt2":
        return keys | {"attention.layer_norm_epsilon": 1e-5}
    keys["attention.head_count_kv"] = hf["num_key_value_heads"]
    keys["attention.layer_norm_rms_epsilon"] = 1e-6
    keys["attention.key_length"] = keys["attention.value_length"] = hf.get("head_dim", dim // heads)
    keys["rope.freq_base"] = hf.get("rope_theta", 1e6 if architecture == "gemma3" else 1e4)
    if architecture == "gemma3":
        keys["attention.sliding_window"] = hf["sliding_window"]
    else:
        keys["rope.dimension_count"] = keys["attention.key_length"]
    return keys


def write(path: Path, architecture: str, keys: dict[str, Any], tensors: Any) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(61)])
    for name, values in tensors:
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(("architecture", "family", "shape"), CASES)
def test_logits(architecture: str, family: str, shape: str, tmp_path: Path) -> None:
    case = golden(family, shape)
    weights = dict(case.engine().weights())
    config = case.checkpoint.config
    assert config.decoder is not None and case.checkpoint.family.gguf is not None
    if architecture == "gemma3":  # the file's norms contain the + 1
        weights = {
            name: values + np.float32(1) if "norm" in name else values
            for name, values in weights.items()
        }
    rules = case.checkpoint.family.gguf.rules(architecture)
    path = tmp_path / "model.gguf"
    write(
        path, architecture, metadata(architecture, case.hf), write_weights(weights, rules, config)
    )

    checkpoint = open_checkpoint(str(path))
    ours = build(checkpoint.config, checkpoint.weights())
    found = torch.from_numpy(ours.step(case.ids.tolist(), ForwardContext(every_position=True)))
    assert difference(found, case.their_output(case.theirs)) < 1e-5
    if architecture == "qwen3" or shape == "wide heads":
        return  # theirs does not look at the width of a head

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their reader copies read-only arrays, and says so
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, gguf_file="model.gguf", dtype=torch.float32, attn_implementation="eager"
        )
    assert difference(found, case.their_output(theirs)) < 1e-5


class File:
    """An open GGUF file that says anything at all."""

    def __init__(self, keys: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
        self.metadata, self.shapes = keys, shapes
        self.names = tuple(shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def read(self, name: str) -> Any:
        return np.ones(self.shapes[name], np.float32)


scalars = st.none() | st.integers(-2, 2**64) | st.floats() | st.booleans() | st.text(max_size=5)


@given(st.sampled_from(CASES), st.data())
def test_no_metadata_breaks_the_reader(case: tuple[str, str, str], data: Any) -> None:
    architecture, family, shape = case
    found = metadata(architecture, golden(family, shape).hf)
    for key in data.draw(st.lists(st.sampled_from(sorted(found)), min_size=1, max_size=3)):
        found[key] = data.draw(scalars | st.lists(scalars, max_size=3))
    keys = {f"{architecture}.{key}": value for key, value in found.items()}
    names = {"token_embd.weight": (61, 32)}
    if data.draw(st.booleans()):
        names["rope_freqs.weight"] = (data.draw(st.integers(0, 5)),)
    reader = by_architecture(architecture).gguf
    assert reader is not None
    try:
        reader.read(File(keys | {"general.architecture": architecture}, names))
    except LucidError as error:
        assert str(error) and error.message("zh")
