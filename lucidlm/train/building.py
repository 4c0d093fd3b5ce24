"""A model to be trained: fresh, or from a checkpoint; and its weights out again."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lucidlm.checkpoint.load import Checkpoint
from lucidlm.config import Config, Stack
from lucidlm.model.attention import Attention
from lucidlm.model.embedding import Head
from lucidlm.model.engine import build
from lucidlm.model.norm import LayerNorm, RMSNorm
from lucidlm.model.position import RelativePositions
from lucidlm.model.transformer import Transformer

TABLE = 0.02  # standard deviation of the entries of tables (Radford et al. 2019)


def fresh(config: Config, seed: int) -> Transformer:
    """A model in float32 whose weights depend on the config and `seed` alone.

    Tables are normal with 0.02; a matrix is normal with 1 / sqrt(inputs), so that it keeps the
    size of what it reads at any width. What writes into the residual stream is divided by the root
    of the number of writers (Radford et al. 2019), which then add up to the size of one. Norms
    begin as 1, biases as 0.
    """
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, module in model.named_modules():
            _begin(module, random)
        for name, stack in config.stacks.items():
            _quieten(model.get_submodule(name), stack)
    return model


def from_checkpoint(checkpoint: Checkpoint) -> Transformer:
    """The checkpoint's model in float32, its weights copied, to be trained on."""
    model = build(checkpoint.config, checkpoint.weights(np.float32)).model
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            copy = weight.detach().clone(memory_format=torch.contiguous_format)
            setattr(module, name, nn.Parameter(copy))
    return model.train()


def weights(model: Transformer) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every parameter's address and array, as `checkpoint.save` takes them."""
    for address, weight in model.weights().items():
        yield address, weight.detach().float().cpu().numpy()


def _begin(module: nn.Module, random: torch.Generator) -> None:
    """The initial values of `module`'s own parameters."""
    if isinstance(module, nn.Linear):
        _normal(module.weight, module.in_features**-0.5, random)
    elif isinstance(module, nn.Embedding | RelativePositions):
        _normal(module.weight, TABLE, random)
    elif isinstance(module, Head) and module.weight is not None:
        _normal(module.weight, TABLE, random)
    elif isinstance(module, LayerNorm | RMSNorm):
        module.weight.fill_(1.0 - module.norm.offset)
    bias = getattr(module, "bias", None)
    if isinstance(bias, nn.Parameter):
        bias.zero_()


def _quieten(stack: nn.Module, config: Stack) -> None:
    """Divide what writes into the residual stream, and queries whose scores nobody scales."""
    writers = config.layers * (2 if config.cross is None else 3)
    for name, module in stack.named_modules():
        if isinstance(module, Attention):
            # T5 does not scale its scores: its queries begin that much smaller (Raffel et al. 2020)
            module.query.weight.div_(module.scale * math.sqrt(module.head_dim))
            module.output.weight.div_(math.sqrt(writers))
        elif name.endswith("feedforward"):
            module.get_submodule("down").weight.div_(math.sqrt(writers))


def _normal(weight: Tensor, deviation: float, random: torch.Generator) -> None:
    weight.copy_(torch.randn(weight.shape, generator=random) * deviation)
