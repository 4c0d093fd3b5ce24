"""AdamW for every parameter, or Muon for the matrices inside layers and AdamW for the rest.

Clipping and the skipping of an update that is not finite are part of the update: no pass over the
gradients of their own, and nobody waits for a device.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lucidlm.train.muon import Muon
from lucidlm.train.recipe import OptimiserRecipe

SLOTS = {"exp_avg": "mean", "exp_avg_sq": "square", "step": "step"}  # torch's names and ours
EPSILON = 1e-8


class Optimiser:
    """Updates `weights` by address from their gradients. `dtype` is what Muon multiplies in."""

    def __init__(
        self, weights: Mapping[str, nn.Parameter], recipe: OptimiserRecipe, dtype: torch.dtype
    ) -> None:
        learnt = {at: weight for at, weight in weights.items() if weight.requires_grad}
        self.recipe, self.weights = recipe, learnt
        by_muon = {at: w for at, w in learnt.items() if recipe.name == "muon" and _inner(at, w)}
        self.muon = (
            Muon(
                by_muon,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
                dtype=dtype,
            )
            if by_muon
            else None
        )
        self.rest = {at: w for at, w in learnt.items() if at not in by_muon}
        groups = [
            {
                "params": [w for at, w in self.rest.items() if _decays(at, w) is decays],
                "weight_decay": recipe.weight_decay if decays else 0.0,
            }
            for decays in (True, False)
        ]
        betas = (recipe.betas[0], recipe.betas[1])
        present = [group for group in groups if group["params"]]
        self.adam = torch.optim.AdamW(present, betas=betas, eps=EPSILON, fused=True)
        for weight in self.rest.values():  # there from the start, so that a state can be loaded
            self.adam.state[weight] = {
                "step": torch.zeros((), device=weight.device),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    @torch.no_grad()
    def step(self, share: float) -> Tensor:
        """One update at `share` of the peak rates. Returns the gradient's norm before clipping, a
        scalar on the device; where it is not finite nothing changes.
        """
        gradients = [w.grad for w in self.weights.values() if w.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = norm.isfinite().float()
        coefficient = torch.ones_like(norm)
        if self.recipe.clip:
            coefficient = (self.recipe.clip / (norm + 1e-6)).clamp(max=1.0)
        if self.muon is not None:
            self.muon.step(self.recipe.muon_rate * share, coefficient, finite)
        for group in self.adam.param_groups:
            group["lr"] = self.recipe.rate * share
        # the fused kernel divides each gradient by `grad_scale` and does nothing if `found_inf`
        setattr(self.adam, "grad_scale", 1 / coefficient)  # noqa: B010
        setattr(self.adam, "found_inf", 1 - finite)  # noqa: B010
        self.adam.step()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Everything remembered, by "ADDRESS.SLOT"; the tensors themselves, no copies."""
        found = {} if self.muon is None else self.muon.state()
        for address, weight in self.rest.items():
            for theirs, ours in SLOTS.items():
                found[f"{address}.{ours}"] = self.adam.state[weight][theirs]
        return found

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""
        own = self.state()
        assert own.keys() == state.keys(), sorted(own.keys() ^ state.keys())[:3]
        for slot, tensor in own.items():
            tensor.copy_(state[slot])


def _inner(address: str, weight: Tensor) -> bool:
    """Whether this is a matrix inside a layer."""
    return weight.ndim == 2 and ".layers." in f".{address}" and address.endswith(".weight")


def _decays(address: str, weight: Tensor) -> bool:
    """Whether this is a matrix that is no table."""
    return weight.ndim == 2 and "embedding." not in address and "position_bias" not in address
