"""LoRA against peft on the same model, and its laws: it begins as nothing, merging changes nothing
but speed, unmerging gives back the bits, and an adapter belongs to its model.
"""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import Golden, difference, golden

from lucidlm.engine import ForwardContext
from lucidlm.errors import TrainError
from lucidlm.model.transformer import Transformer
from lucidlm.train.lora import adapt, adapted_in, load_adapter, merge, save_adapter, unmerge
from lucidlm.train.recipe import LoraRecipe

THEIR_NAMES = {
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "output": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
}
LORA = LoraRecipe(rank=3, alpha=5.0)


@pytest.fixture(scope="module")
def pair() -> Golden:
    return golden("llama", "llama 3")


def ours(pair: Golden) -> Transformer:
    return copy.deepcopy(pair.engine().model)


def learnt(model: Transformer, lora: LoraRecipe = LORA) -> Transformer:
    """`model` adapted, B moved off zero as if it had learnt."""
    numbers = torch.Generator().manual_seed(5)
    for module in adapt(model, lora).values():
        noise = torch.randn(module.lora_b.shape, generator=numbers)
        module.lora_b.data.copy_(noise * 0.1)
    return model


def logits(model: Transformer, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, ForwardContext())


def test_an_adapted_model_is_peft_s(pair: Golden) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=LORA.rank, lora_alpha=LORA.alpha, target_modules=list(THEIR_NAMES.values())
        )
        theirs: Any = get_peft_model(copy.deepcopy(pair.theirs).float(), config).eval()
    model = learnt(ours(pair))
    parameters = dict(theirs.named_parameters())
    for address, module in adapted_in(model).items():
        _, layer, _, leaf = address.split(".")
        (name,) = {
            name.rpartition(".lora_A")[0]
            for name in parameters
            if f"layers.{layer}." in name and f".{THEIR_NAMES[leaf]}.lora_A" in name
        }
        parameters[f"{name}.lora_A.default.weight"].data.copy_(module.lora_a)
        parameters[f"{name}.lora_B.default.weight"].data.copy_(module.lora_b)
    with torch.no_grad():
        expected = theirs(input_ids=pair.ids).logits
    assert difference(logits(model, pair.ids), expected) < 1e-5


def test_it_begins_as_nothing(pair: Golden) -> None:
    model = ours(pair)
    before = logits(model, pair.ids)
    adapt(model, LORA)
    assert torch.equal(logits(model, pair.ids), before)
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trainable and all(name.endswith(("lora_a", "lora_b")) for name in trainable)


def test_merging_changes_nothing_and_unmerging_gives_back_the_bits(pair: Golden) -> None:
    model = learnt(ours(pair))
    weights = {at: module.weight.detach().clone() for at, module in adapted_in(model).items()}
    before = logits(model, pair.ids)
    merge(model)
    merge(model)  # once is enough
    assert difference(logits(model, pair.ids), before) < 1e-5
    assert not any(torch.equal(m.weight, weights[at]) for at, m in adapted_in(model).items())
    unmerge(model)
    assert torch.equal(logits(model, pair.ids), before)
    assert all(torch.equal(m.weight, weights[at]) for at, m in adapted_in(model).items())


def test_only_what_is_named_is_adapted(pair: Golden) -> None:
    model = ours(pair)
    found = adapt(model, LoraRecipe(rank=2, targets=("query", "value")))
    assert {address.rpartition(".")[2] for address in found} == {"query", "value"}
    assert all(module.path == address for address, module in found.items())
    with pytest.raises(TrainError, match=r"'qeury'.*query"):
        adapt(ours(pair), LoraRecipe(targets=("qeury",)))
    with pytest.raises(TrainError, match="rank is 0"):
        adapt(ours(pair), LoraRecipe(rank=0))


@pytest.mark.parametrize("merged", [False, True])
def test_an_adapter_is_saved_and_loaded(pair: Golden, tmp_path: Path, merged: bool) -> None:
    model = learnt(ours(pair))
    before = logits(model, pair.ids)
    if merged:
        merge(model)
    save_adapter(model, LORA, "base", tmp_path / "adapter")
    fresh = ours(pair)
    assert load_adapter(fresh, tmp_path / "adapter") == LORA
    assert torch.equal(logits(fresh, pair.ids), before)


def test_an_adapter_belongs_to_its_model(pair: Golden, tmp_path: Path) -> None:
    save_adapter(learnt(ours(pair)), LORA, "the-base", tmp_path / "adapter")
    other = ours(pair)
    other.get_parameter("decoder.layers.0.attention.query.weight").data += 1e-3
    with pytest.raises(TrainError, match="the-base"):
        load_adapter(other, tmp_path / "adapter")
    with pytest.raises(TrainError, match=r"no adapter\.json"):
        load_adapter(ours(pair), tmp_path)
    said = json.loads((tmp_path / "adapter" / "adapter.json").read_text())
    said["lora"]["rank"] = 4
    (tmp_path / "adapter" / "adapter.json").write_text(json.dumps(said))
    with pytest.raises(TrainError, match="damaged"):
        load_adapter(ours(pair), tmp_path / "adapter")
