"""The backward pass of one step, seen: the gradient at every site and of every weight, each
checked by nudging, and what AdamW makes of one of them.

All in float64, so that nudging agrees to many digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lucidlm.config import Attention, Config, Embedding, FeedForward, Head, Norm, Rope, Stack
from lucidlm.engine import ForwardContext, Tracer
from lucidlm.model.transformer import Transformer
from lucidlm.train.building import fresh
from lucidlm.train.optimiser import EPSILON
from lucidlm.train.recipe import OptimiserRecipe

Doubles = NDArray[np.float64]
NUDGE = 1e-5  # added and taken away; the error is of the order of its square


@dataclass(frozen=True, eq=False)
class Backward:
    """One step of one sentence: the mean loss, and its gradient by everything it depends on."""

    loss: float
    sites: Mapping[str, Doubles]  # by address, in order of computation, without the axis of rows
    weights: Mapping[str, Doubles]


@dataclass(frozen=True, kw_only=True)
class Update:
    """AdamW's arithmetic for one weight (Loshchilov & Hutter 2019), term by term."""

    weight: float
    gradient: float
    mean: float  # b1 m + (1 - b1) g
    square: float  # b2 v + (1 - b2) g^2
    mean_hat: float  # m / (1 - b1^t): m began at 0, and is too small at first
    square_hat: float  # v / (1 - b2^t)
    decay: float  # rate * weight_decay * w
    step: float  # rate * m_hat / (sqrt(v_hat) + eps)
    result: float  # w - decay - step


class Watching:
    """A tracer that keeps every value, each as a tensor of its own that will have a gradient."""

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}

    def __call__(self, path: str, name: str, value: Tensor) -> Tensor:
        kept = value.clone() if value.requires_grad else value.detach().clone().requires_grad_()
        kept.retain_grad()
        self.seen[_address(path, name)] = kept
        return kept


@dataclass(frozen=True)
class Nudged:
    """A tracer that adds `amount` to one cell of one site."""

    address: str
    cell: tuple[int, ...]
    amount: float

    def __call__(self, path: str, name: str, value: Tensor) -> Tensor:
        if _address(path, name) != self.address:
            return value
        value = value.clone()
        value[(0, *self.cell)] += self.amount
        return value


def tiny(vocab_size: int, seed: int, *, dim: int = 8, layers: int = 1) -> Transformer:
    """A decoder small enough to show every number of, in float64."""
    config = Config(
        dim=dim,
        vocab_size=vocab_size,
        max_positions=64,
        embedding=Embedding(),
        decoder=Stack(
            layers=layers,
            attention=Attention(
                heads=2, kv_heads=2, head_dim=dim // 2, scale=(dim / 2) ** -0.5, rope=Rope()
            ),
            feedforward=FeedForward(hidden=2 * dim, activation="gelu"),
            norm=Norm(kind="rms"),
            norm_places=("input",),
            mask="causal",
            final_norm=True,
        ),
        head=Head(),
    )
    return fresh(config, seed).double()


def backward(model: Transformer, ids: list[int]) -> Backward:
    """The gradients of the mean loss of predicting every token of `ids` but the first."""
    watching = Watching()
    model.zero_grad()
    loss = _loss(model, ids, watching)
    loss.backward()
    sites = {at: _gradient(value)[0] for at, value in watching.seen.items()}
    weights = {at: _gradient(weight) for at, weight in model.weights().items()}
    return Backward(float(loss.detach()), sites, weights)


def by_nudging(model: Transformer, ids: list[int], address: str, cell: tuple[int, ...]) -> float:
    """How the loss changes with one cell of a site: it is nudged up and down in the run."""

    def nudged(amount: float) -> float:
        return float(_loss(model, ids, Nudged(address, cell, amount)))

    return _slope(nudged)


def by_nudging_weight(
    model: Transformer, ids: list[int], address: str, cell: tuple[int, ...]
) -> float:
    """The same for one number of a weight, which is as it was afterwards."""
    weight = model.weights()[address].data
    before = float(weight[cell])

    def nudged(amount: float) -> float:
        weight[cell] = before + amount
        try:
            return float(_loss(model, ids, None))
        finally:
            weight[cell] = before

    return _slope(nudged)


def update(
    weight: float, gradient: float, before: Update | None, step: int, recipe: OptimiserRecipe
) -> Update:
    """AdamW's update number `step`, from 1, of one weight, after `before`."""
    first, second = recipe.betas
    mean = first * (before.mean if before else 0.0) + (1 - first) * gradient
    square = second * (before.square if before else 0.0) + (1 - second) * gradient**2
    mean_hat, square_hat = mean / (1 - first**step), square / (1 - second**step)
    decay = recipe.rate * recipe.weight_decay * weight
    change = recipe.rate * mean_hat / (square_hat**0.5 + EPSILON)
    return Update(
        weight=weight,
        gradient=gradient,
        mean=mean,
        square=square,
        mean_hat=mean_hat,
        square_hat=square_hat,
        decay=decay,
        step=change,
        result=weight - decay - change,
    )


def updates(
    model: Transformer,
    ids: list[int],
    address: str,
    cell: tuple[int, ...],
    recipe: OptimiserRecipe,
    count: int,
) -> list[tuple[Update, float]]:
    """`count` steps of training `model` on `ids`, in place: what the arithmetic says of one weight,
    and what PyTorch's AdamW made of it. There is no clipping.
    """
    weight = model.weights()[address]
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.rate,
        betas=(recipe.betas[0], recipe.betas[1]),
        eps=EPSILON,
        weight_decay=recipe.weight_decay,
    )
    found: list[tuple[Update, float]] = []
    for step in range(1, count + 1):
        gradient = float(backward(model, ids).weights[address][cell])
        before = found[-1][0] if found else None
        told = update(float(weight[cell].detach()), gradient, before, step, recipe)
        optimiser.step()
        found.append((told, float(weight[cell].detach())))
    return found


def _loss(model: Transformer, ids: list[int], tracer: Tracer | None) -> Tensor:
    """The mean cross-entropy, in the model's own precision."""
    rows = torch.tensor([ids])
    logits = model(rows[:, :-1], ForwardContext(tracer=tracer))
    return functional.cross_entropy(logits[0], rows[0, 1:])


def _slope(nudged: Callable[[float], float]) -> float:
    """The central difference, whose error is of the order of NUDGE squared."""
    with torch.no_grad():
        return (nudged(NUDGE) - nudged(-NUDGE)) / (2 * NUDGE)


def _gradient(value: Tensor) -> Doubles:
    """What `backward` left there; zeros where nothing depends on it."""
    found = torch.zeros_like(value) if value.grad is None else value.grad
    array: Doubles = found.detach().numpy()
    return array


def _address(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
