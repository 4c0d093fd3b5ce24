"""LoRA (Hu et al. 2022): a matrix W stays as it is, and alpha / rank * B A is learnt beside it.

A (rank, in) starts random and B (out, rank) zero, so that the first step begins with the model as
it was. Merged, W + alpha / rank * B A is one matrix again and costs nothing; unmerging puts back
the very bits of W. An adapter is a small folder: `adapter.json` and its A and B as safetensors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lucidlm.checkpoint.load import read_json
from lucidlm.checkpoint.safetensors import open_safetensors
from lucidlm.checkpoint.safetensors_write import write_safetensors
from lucidlm.errors import TrainError, nearest
from lucidlm.files import write_atomic
from lucidlm.model.transformer import Transformer
from lucidlm.plain import from_plain
from lucidlm.train.recipe import LoraRecipe

ADAPTER = "adapter.json"


class LoraLinear(nn.Linear):
    """x W^T (+ b) + scale * (x A^T) B^T; x (..., in) -> (..., out). W and b are frozen."""

    def __init__(self, linear: nn.Linear, lora: LoraRecipe) -> None:
        super().__init__(
            linear.in_features, linear.out_features, linear.bias is not None, device="meta"
        )
        self.weight, self.bias = linear.weight, linear.bias
        for frozen in linear.parameters():
            frozen.requires_grad_(False)
        self.lora_a = nn.Parameter(self.weight.new_empty(lora.rank, self.in_features))
        self.lora_b = nn.Parameter(self.weight.new_zeros(self.out_features, lora.rank))
        self.scale = lora.alpha / lora.rank
        self.kept: Tensor | None = None  # W, while the product is merged into `weight`

    def forward(self, x: Tensor) -> Tensor:
        out = functional.linear(x, self.weight, self.bias)
        if self.kept is not None:
            return out
        return out + self.scale * functional.linear(functional.linear(x, self.lora_a), self.lora_b)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the product to the matrix."""
        if self.kept is None:
            self.kept = self.weight.data.clone()
            self.weight.data += self.scale * (self.lora_b @ self.lora_a)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take it out again, to the bit."""
        if self.kept is not None:
            self.weight.data.copy_(self.kept)
            self.kept = None


def adapt(model: Transformer, lora: LoraRecipe, seed: int = 0) -> dict[str, LoraLinear]:
    """Put a `LoraLinear` in the place of every layer's projections that `lora.targets` names, and
    freeze everything else. Returns them by address.

    Raises TrainError for a target that no layer has, or a rank that is none.
    """
    if lora.rank < 1:
        raise TrainError("train.at_least_one", key="lora.rank", value=lora.rank)
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".layers." in f".{name}"
    }
    known = sorted({name.rpartition(".")[2] for name in found})
    for target in lora.targets:
        if target not in known and target not in LoraRecipe().targets:
            raise TrainError(
                "train.no_lora_target", name=target, nearest=", ".join(nearest(target, known))
            )
    model.requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    adapted: dict[str, LoraLinear] = {}
    for name, linear in found.items():
        owner, _, leaf = name.rpartition(".")
        if leaf in lora.targets:
            module = LoraLinear(linear, lora)
            module.path = linear.path
            bound = 1 / math.sqrt(module.in_features)  # He et al. 2015, as for any linear layer
            start = torch.rand(module.lora_a.shape, generator=random) * 2 * bound - bound
            module.lora_a.data.copy_(start)
            setattr(model.get_submodule(owner), leaf, module)
            adapted[model.address(name)] = module
    return adapted


def adapted_in(model: Transformer) -> dict[str, LoraLinear]:
    """The adapted projections of a model by address; none where it was not adapted."""
    return {
        model.address(name): module
        for name, module in model.named_modules()
        if isinstance(module, LoraLinear)
    }


def merge(model: Transformer) -> None:
    """Merge every adapted projection."""
    for module in adapted_in(model).values():
        module.merge()


def unmerge(model: Transformer) -> None:
    """Unmerge every adapted projection."""
    for module in adapted_in(model).values():
        module.unmerge()


def save_adapter(model: Transformer, lora: LoraRecipe, base: str, folder: Path) -> None:
    """Write what was learnt, with the name of the model it belongs to and a digest of its
    weights.
    """
    modules = adapted_in(model)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder, _tensors(modules))
    said = {"base": base, "digest": _digest(modules), "lora": asdict(lora)}
    write_atomic(folder / ADAPTER, (json.dumps(said, indent=2) + "\n").encode())


def load_adapter(model: Transformer, folder: Path) -> LoraRecipe:
    """Adapt `model` and put in what `save_adapter` wrote.

    Raises TrainError when the adapter was learnt for other weights.
    """
    if not (folder / ADAPTER).is_file():
        raise TrainError("train.no_adapter", path=str(folder))
    said = read_json(folder / ADAPTER)
    lora = from_plain(LoraRecipe, said.get("lora"), ADAPTER)
    modules = adapt(model, lora)
    if said.get("digest") != _digest(modules):
        raise TrainError("train.other_base", path=str(folder), base=str(said.get("base")))
    with open_safetensors(folder / "model.safetensors") as file:
        _fill(modules, {name: file.read(name, np.float32) for name in file.names}, folder)
    return lora


def _fill(modules: Mapping[str, LoraLinear], arrays: Mapping[str, Any], folder: Path) -> None:
    for address, module in modules.items():
        for leaf in ("lora_a", "lora_b"):
            parameter, array = getattr(module, leaf), arrays.get(f"{address}.{leaf}")
            if array is None or array.shape != tuple(parameter.shape):
                raise TrainError("train.damaged_adapter", path=str(folder), name=address)
            parameter.data.copy_(torch.from_numpy(array))


def _tensors(modules: Mapping[str, LoraLinear]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for address, module in modules.items():
        for leaf in ("lora_a", "lora_b"):
            yield f"{address}.{leaf}", getattr(module, leaf).detach().float().cpu().numpy()


def _digest(modules: Mapping[str, LoraLinear]) -> str:
    """Of the matrices that the adapter stands beside, in float32."""
    digest = hashlib.blake2b(digest_size=16)
    for address in sorted(modules):
        module = modules[address]
        weight = module.weight if module.kept is None else module.kept
        digest.update(address.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
