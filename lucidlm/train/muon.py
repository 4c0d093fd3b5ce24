"""Muon (Jordan et al. 2024): momentum, made orthogonal, for the matrices inside layers.

A gradient's few large directions drown the others; with all singular values set to 1 every
direction is learnt from. Newton-Schulz iterations do it with matrix products alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from lucidlm.train.devices import ALONE, Processes

# an odd quintic that drives singular values from (0, 1] to about 1, steep at 0 (Jordan et al. 2024)
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, rows, columns) -> the same singular vectors with singular values of about 0.7 to 1.2.

    Computed in `dtype`; of the two Gram matrices the smaller one is formed.
    """
    a, b, c = QUINTIC
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.mT if tall else x


class Muon:
    """Momentum of the given matrices by address, and the update; equal shapes go together.

    `weights` are what this process holds of each, its run of the `rows` (all of them, where it is
    alone). Momentum is kept for these; the orthogonal update is made of whole matrices.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        rows: Mapping[str, int],
        *,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype,
        processes: Processes = ALONE,
    ) -> None:
        self.momentum, self.weight_decay, self.dtype = momentum, weight_decay, dtype
        self.weights, self.processes = dict(weights), processes
        self.groups: dict[tuple[int, int], list[str]] = {}  # by whole shape
        for address, weight in self.weights.items():
            self.groups.setdefault((rows[address], weight.shape[1]), []).append(address)
        self.stacked = {
            shape: torch.stack([torch.zeros_like(self.weights[address]) for address in addresses])
            for shape, addresses in self.groups.items()
        }

    @torch.no_grad()
    def step(self, rate: float, coefficient: Tensor, finite: Tensor) -> None:
        """One update at `rate` by the gradients times `coefficient`; where `finite` is 0 nothing
        changes. Both are scalars on the device, which nobody waits for.
        """
        keep = 1 - rate * self.weight_decay * finite
        for shape, addresses in self.groups.items():
            weights = [self.weights[address] for address in addresses]
            gradients = torch.stack([w.grad for w in weights if w.grad is not None]) * coefficient
            assert len(gradients) == len(weights), "a matrix without a gradient"
            kept = self.stacked[shape]
            kept.copy_(torch.where(finite > 0, kept.lerp(gradients, 1 - self.momentum), kept))
            ahead = gradients.lerp(kept, self.momentum)  # Nesterov's
            ahead = torch.where(finite > 0, ahead, 0.0).to(self.dtype)
            turn = partial(orthogonal, dtype=self.dtype)
            update = self.processes.each_whole(ahead, shape[0], turn).to(kept.dtype)
            # a tall matrix has fewer directions than rows: its entries would be too small
            scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            torch._foreach_mul_(weights, keep)
            torch._foreach_add_(weights, list((update * (finite * -scale)).unbind()))

    def state(self) -> dict[str, Tensor]:
        """Views of the momenta of this process's rows, by address."""
        return {
            address: kept
            for shape, addresses in self.groups.items()
            for address, kept in zip(addresses, self.stacked[shape], strict=True)
        }
