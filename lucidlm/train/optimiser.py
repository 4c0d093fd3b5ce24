"""AdamW for every parameter, or Muon for the matrices inside layers and AdamW for the rest.

Clipping and the skipping of an update that is not finite are part of the update: no pass over the
gradients of their own, and nobody waits for a device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from lucidlm.train.devices import ALONE, Processes
from lucidlm.train.muon import Muon
from lucidlm.train.recipe import OptimiserRecipe
from lucidlm.train.sharding import local

SLOTS = {"exp_avg": "mean", "exp_avg_sq": "square", "step": "step"}  # torch's names and ours
EPSILON = 1e-8


class Optimiser:
    """Updates `weights` by address from their gradients. `dtype` is what Muon multiplies in.

    Of weights that are spread over `processes` each updates its own rows.
    """

    def __init__(
        self,
        weights: Mapping[str, nn.Parameter],
        recipe: OptimiserRecipe,
        dtype: torch.dtype,
        processes: Processes = ALONE,
    ) -> None:
        learnt = {at: weight for at, weight in weights.items() if weight.requires_grad}
        self.recipe, self.weights, self.processes = recipe, learnt, processes
        self.own = {at: local(weight) for at, weight in learnt.items()}  # rows
        by_muon = {at: w for at, w in learnt.items() if recipe.name == "muon" and _inner(at, w)}
        self.muon = (
            Muon(
                {at: self.own[at] for at in by_muon},
                {at: len(weight) for at, weight in by_muon.items()},
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
                dtype=dtype,
                processes=processes,
            )
            if by_muon
            else None
        )
        self.rest = {at: self.own[at] for at in learnt if at not in by_muon}
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
        for address, weight in self.weights.items():
            if weight.grad is not None:
                self.own[address].grad = local(weight.grad)
        norm = self._norm([own.grad for own in self.own.values() if own.grad is not None])
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
        for own in self.own.values():
            own.grad = None
        return norm

    def state(self) -> dict[str, Tensor]:
        """Everything remembered, by "ADDRESS.SLOT"; the tensors themselves, no copies. Of several
        processes the first has it, on its CPU; all have to ask.
        """
        return {
            f"{address}.{slot}": self.processes.whole(tensor, len(self.weights[address]))
            for address, slot, tensor in self._slots()
        }

    def shapes(self) -> dict[str, torch.Size]:
        """The shape of everything in `state`, on all processes."""
        return {
            f"{address}.{slot}": self.weights[address].shape if tensor.ndim else tensor.shape
            for address, slot, tensor in self._slots()
        }

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave, each process its own rows."""
        slots = {f"{address}.{slot}": tensor for address, slot, tensor in self._slots()}
        assert slots.keys() == state.keys(), sorted(slots.keys() ^ state.keys())[:3]
        for name, tensor in slots.items():
            tensor.copy_(self.processes.own_rows(state[name]))

    def _norm(self, gradients: list[Tensor]) -> Tensor:
        """Of all gradients together, each process having some rows."""
        norm = nn.utils.get_total_norm(gradients)
        return norm if self.processes.world == 1 else self.processes.add(norm.square()).sqrt()

    def _slots(self) -> Iterator[tuple[str, str, Tensor]]:
        """(address, slot, what is remembered of this process's rows)"""
        for address, kept in () if self.muon is None else self.muon.state().items():
            yield address, "momentum", kept
        for address, own in self.rest.items():
            for theirs, ours in SLOTS.items():
                yield address, ours, self.adam.state[own][theirs]


def _inner(address: str, weight: Tensor) -> bool:
    """Whether this is a matrix inside a layer."""
    return weight.ndim == 2 and ".layers." in f".{address}" and address.endswith(".weight")


def _decays(address: str, weight: Tensor) -> bool:
    """Whether this is a matrix that is no table."""
    return weight.ndim == 2 and "embedding." not in address and "position_bias" not in address
