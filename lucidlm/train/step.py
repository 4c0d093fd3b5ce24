"""One update of the weights: from batches through the loss and its gradient to the optimiser."""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lucidlm.engine import ForwardContext
from lucidlm.model.transformer import Layer, Transformer
from lucidlm.train.activation import quicken
from lucidlm.train.attention import kernel
from lucidlm.train.batch import NO_LOSS, Batch
from lucidlm.train.devices import ALONE, Processes
from lucidlm.train.dropout import Dropout
from lucidlm.train.objective import Tensors, loss, tensors
from lucidlm.train.optimiser import Optimiser
from lucidlm.train.recipe import Recipe
from lucidlm.train.schedule import share
from lucidlm.train.sharding import put_down, shard

# Arithmetic of a run (6 x parameters x tokens) from which compiling for half a minute pays
WORTH_COMPILING = {"cpu": 2e14, "cuda": 1e15}


class StepResult:
    """What one update was like. Reading a number waits for the device to have it."""

    def __init__(
        self, *, loss: Tensor | float, gradient_norm: Tensor | float, rate: float, tokens: int
    ) -> None:
        self._loss, self._gradient_norm = loss, gradient_norm
        self.rate = rate  # of AdamW
        self.tokens = tokens  # real ones, sources included

    @property
    def loss(self) -> float:
        """Mean over all targets, label smoothing included."""
        return float(self._loss)

    @property
    def gradient_norm(self) -> float:
        """Before clipping."""
        return float(self._gradient_norm)

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are numbers; else the weights are as they were."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


class Stepper:
    """Makes updates of `model` as `recipe` says, on `device`, where the model is moved.

    Several `processes` each have some of a step's micro-batches, and the model is spread over them.
    Random numbers depend on the seed, the step and the micro-batch's number, not on what came
    before, nor on who computes it.
    """

    def __init__(
        self,
        model: Transformer,
        recipe: Recipe,
        *,
        device: torch.device,
        total_steps: int,
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.recipe, self.device = model, recipe, device
        self.total_steps, self.processes = total_steps, processes
        self.dtype = precision(recipe.precision, device)
        attend = partial(kernel, model.config, recipe.attention, device, recipe.context)
        dropout = Dropout(recipe.dropout) if recipe.dropout else None
        self.learning = ForwardContext(tracer=dropout, attend=attend(recipe.dropout))
        self.looking = ForwardContext(attend=attend())
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        if recipe.checkpointing:
            recompute(model)
        if processes.world > 1:
            shard(model, processes, device, self.dtype)
        else:
            model.to(device)
        self.optimiser = Optimiser(model.weights(), recipe.optimiser, self.dtype, processes)
        self.compiled = processes.world == 1 and compiles(model, recipe, device, total_steps)
        self.forward: Any = partial(self._loss, self.learning, recipe.label_smoothing)
        if self.compiled:
            quicken(model)
            self.forward = torch.compile(self.forward, dynamic=False, fullgraph=True)

    def __call__(self, batches: Sequence[Batch], step: int) -> StepResult:
        """Update number `step`, from 0, by the mean loss over all targets of all batches: this
        process's ones, and the others'.
        """
        learnt = sum(int((batch.targets != NO_LOSS).sum()) for batch in batches)
        counts = torch.tensor([learnt, sum(batch.tokens for batch in batches)])
        learnt, tokens = self.processes.add(counts).tolist()  # so that no device is waited for
        targets = max(1, learnt)
        sums = torch.zeros((), device=self.device)
        world = self.processes.world  # a model that is spread averages its gradients
        for number, batch in zip(self.processes.dealt(len(batches) * world), batches, strict=True):
            self._sow(_seed(self.recipe.seed, step, number))
            total, _ = self.forward(tensors(batch, self.device))
            (total * (world / targets)).backward()
            sums += total.detach()
        sums = self.processes.add(sums)
        rate = share(step, self.total_steps, self.recipe.schedule)
        norm = self.optimiser.step(rate)
        self.model.zero_grad(set_to_none=True)
        return StepResult(
            loss=sums / targets,
            gradient_norm=norm,
            rate=self.recipe.optimiser.rate * rate,
            tokens=tokens,
        )

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> float:
        """The mean loss over all targets, without dropout or smoothing; NaN where there is none."""
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for batch in batches:
            total, targets = self._loss(self.looking, 0.0, tensors(batch, self.device))
            sums += torch.stack([total.double(), targets.double()])
        put_down(self.model)
        total, count = self.processes.add(sums).tolist()
        return total / count if count else math.nan

    def state(self) -> dict[str, Tensor]:
        """The optimiser's, by "ADDRESS.SLOT"; not copied. Of several processes the first has it,
        on its CPU.
        """
        return self.optimiser.state()

    def shapes(self) -> dict[str, torch.Size]:
        """The shape of everything in `state`, on all processes."""
        return self.optimiser.shapes()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.optimiser.load_state(state)

    def _sow(self, seed: int) -> None:
        """Begin the random numbers of a batch anew."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _loss(self, ctx: ForwardContext, smoothing: float, batch: Tensors) -> tuple[Tensor, Tensor]:
        narrow = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=narrow):
            return loss(self.model, batch, ctx, smoothing)


def precision(wanted: str, device: torch.device) -> torch.dtype:
    """What matrix products are computed in: bfloat16 where asked for, or where the device has
    instructions for it; weights and sums stay float32.
    """
    if wanted == "auto":
        wanted = "bfloat16" if _multiplies_bfloat16(device) else "float32"
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def compiles(model: Transformer, recipe: Recipe, device: torch.device, total_steps: int) -> bool:
    """Whether steps are compiled: as told, or where the run is long enough for it to pay and what
    it needs is there. It depends on the recipe, so that a run that is resumed decides alike.
    """
    if recipe.compile != "auto":
        return recipe.compile == "on"
    tools = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    ready = bool(tools) if device.type == "cpu" else bool(importlib.util.find_spec("triton"))
    tokens = total_steps * recipe.accumulate * recipe.batch * recipe.context
    work = 6.0 * sum(weight.numel() for weight in model.parameters()) * tokens
    return ready and work >= WORTH_COMPILING.get(device.type, math.inf)


def recompute(model: Transformer) -> None:
    """Keep each layer's input alone, and compute what is in it again in the backward pass."""
    for layer in model.modules():
        if isinstance(layer, Layer):
            again = partial(checkpoint, layer.forward, use_reentrant=False)
            layer.__dict__["forward"] = again  # this layer's own, before the class's


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    known = getattr(torch.cpu, "get_capabilities", None)  # from PyTorch 2.11 on
    if known is None:
        return torch.cpu._is_avx512_bf16_supported()
    has = known()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))


def _seed(*numbers: int) -> int:
    """One seed from several numbers."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % (1 << 63)
    return seed
