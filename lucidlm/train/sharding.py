"""A model spread over processes (FSDP2, Zhao et al. 2023): each holds a run of every weight's
rows, and a layer is whole only while it computes.

Applied from outside: the model knows nothing of it, and its code is what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from lucidlm.model.transformer import Layer, Transformer
from lucidlm.train.devices import Processes

if TYPE_CHECKING:
    from lucidlm.train.setup import Subject

CALLED = ("vectors", "logits")  # methods of the model that a training step begins with


def shard(
    model: Transformer, processes: Processes, device: torch.device, dtype: torch.dtype
) -> None:
    """Leave this process its own rows of every weight, on `device`; gradients are averaged.

    A layer's weights travel in `dtype`, which its matrices are multiplied in; gradients and the
    rows that stay are float32.
    """
    mesh = init_device_mesh(device.type, (processes.world,))
    narrow = None if dtype == torch.float32 else dtype
    policy = MixedPrecisionPolicy(
        param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for layer in model.modules():
        if isinstance(layer, Layer):
            fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh)
    for name in CALLED:
        register_fsdp_forward_method(model, name)


def put_down(model: Transformer) -> None:
    """Let go of the rows of others that a forward pass holds on to for a backward pass, where none
    follows.
    """
    if isinstance(model, FSDPModule):
        model.reshard()


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a weight or a gradient: the same memory, no copy."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def gathered(model: Transformer, subject: Subject, processes: Processes) -> Transformer | None:
    """The whole model on the first process: itself where it is not spread, else a twin on the CPU.
    None elsewhere; all have to ask.
    """
    if processes.world == 1:
        return model
    twin = subject.model() if processes.first else None
    there = {} if twin is None else twin.weights()
    for address, weight in model.weights().items():
        whole = processes.whole(local(weight), len(weight))
        if twin is not None:
            there[address].copy_(whole)
    return twin
