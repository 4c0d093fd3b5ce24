"""What a run needs of memory, from the recipe and the model's config, before anything is built.

`lucidlm.count` counts by the formulas of the literature, for mixed precision on a GPU. Here is what
this program keeps: weights, gradients and the optimiser's state in float32, and the values that
each operation holds for the backward pass, as they were found by measuring.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from lucidlm.config import Attention, Config, Stack
from lucidlm.count import count
from lucidlm.errors import TrainError
from lucidlm.hardware import readable
from lucidlm.parameters import parameters
from lucidlm.train.recipe import Recipe

WIDE, NARROW = 4, 2  # bytes of float32 and bfloat16
NORM = 3  # values that a norm keeps of each number it reads: centred, scaled, and the result
PATTERN = 2  # times the attention pattern is there, where it is there at all
LOSS = 3  # times the logits are there in float32: themselves, their softmax, their gradient
MUON = 10  # times the largest group of equal matrices is there while they are made orthogonal
PROGRAM = 64 << 20  # libraries' own buffers
SHORTEST = 32  # tokens of context that advice goes down to
SPARE = 0.95  # of what is free may be used


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the fullest moment of a step, on the device that trains."""

    weights: int
    gradients: int
    optimiser: int
    activations: int  # of one micro-batch, the loss's among them
    free: int | None = None  # None: the system does not tell

    @property
    def needed(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.activations + PROGRAM

    @property
    def fits(self) -> bool:
        return self.free is None or self.needed <= SPARE * self.free


def memory(
    config: Config,
    recipe: Recipe,
    *,
    narrow: bool,
    explicit: bool,
    free: int | None = None,
    processes: int = 1,
) -> Memory:
    """What a run of `recipe` needs of each of its `processes`; `narrow` computes in bfloat16,
    `explicit` attention keeps its patterns. Adapters (LoRA) alone have gradients where there are
    some.
    """
    sizes = {address: _elements(shape) for address, shape in parameters(config).items()}
    total = sum(sizes.values())
    learnt = total if recipe.lora is None else _adapters(config, recipe)
    groups: dict[tuple[int, ...], int] = {}
    if recipe.optimiser.name == "muon" and recipe.lora is None:
        for address, shape in parameters(config).items():
            if len(shape) == 2 and "layers." in address:
                groups[shape] = groups.get(shape, 0) + sizes[address]
    by_muon = sum(groups.values())
    kept = _activations(config, recipe, narrow=narrow, explicit=explicit)
    working = WIDE * MUON * max(groups.values(), default=0)  # when the activations are gone
    gathered = 0  # rows of others, while something computes: tables, and two layers
    if processes > 1:
        inside = sum(size for address, size in sizes.items() if "layers." in address)
        depth = sum(stack.layers for stack in config.stacks.values())
        gathered = total - inside + min(2, depth) * inside // depth
    return Memory(
        weights=(WIDE + narrow * NARROW) * (total // processes + gathered),
        gradients=WIDE * (learnt // processes + gathered),
        optimiser=WIDE * (2 * (learnt - by_muon) + by_muon) // processes,
        activations=max(kept, working),
        free=free,
    )


def check_fits(
    config: Config,
    recipe: Recipe,
    *,
    narrow: bool,
    explicit: bool,
    free: int | None,
    processes: int = 1,
) -> Memory:
    """What the run needs. Raises TrainError, with what would help, where that is not there."""
    needs = partial(
        memory, config, narrow=narrow, explicit=explicit, free=free, processes=processes
    )
    found = needs(recipe)
    if found.fits:
        return found
    helps = []
    for changes in _smaller(recipe):
        for said, changed in changes:
            if needs(changed).fits:
                helps.append(said)
                break
    raise TrainError(
        "training.too_large" if helps else "training.far_too_large",
        needed=readable(found.needed),
        free=readable(found.free or 0),
        state=readable(found.needed - found.activations),
        advice=" / ".join(helps),
    )


def flops_per_token(config: Config, context: int) -> int:
    """Of a step: the forward pass, and twice as much for the backward pass (Kaplan et al. 2020).

    An encoder's token counts like its decoder's; attention reads the whole context.
    """
    cost = count(config)
    forward = cost.flops_per_token + cost.flops_per_source_token
    sides = len(config.stacks)
    forward += sides * cost.attention_flops_per_token(context, context * (sides - 1))
    return 3 * forward // sides


def _smaller(recipe: Recipe) -> Iterator[Iterator[tuple[str, Recipe]]]:
    """Ways to make a run smaller, each in steps, as they are given to --set; those that learn the
    same come first.
    """
    yield (
        (
            f"--set batch={recipe.batch // n} --set accumulate={recipe.accumulate * n}",
            replace(recipe, batch=recipe.batch // n, accumulate=recipe.accumulate * n),
        )
        for n in _powers(recipe.batch)
    )
    if not recipe.checkpointing:
        yield iter([("--set checkpointing=true", replace(recipe, checkpointing=True))])
    yield (
        (f"--set context={recipe.context // n}", replace(recipe, context=recipe.context // n))
        for n in _powers(recipe.context // SHORTEST)
    )
    if recipe.optimiser.name == "adamw" and recipe.lora is None:
        muon = replace(recipe, optimiser=replace(recipe.optimiser, name="muon"))
        yield iter([("--set optimiser.name=muon", muon)])


def _powers(most: int) -> Iterator[int]:
    """2, 4, 8, ... up to `most`."""
    n = 2
    while n <= most:
        yield n
        n *= 2


def _activations(config: Config, recipe: Recipe, *, narrow: bool, explicit: bool) -> int:
    """Bytes that a micro-batch leaves for its backward pass."""
    width = NARROW if narrow else WIDE
    tokens = recipe.batch * recipe.context
    bytes_ = 0
    for stack in config.stacks.values():
        layer = _layer(stack, config.dim, recipe, width, explicit)
        layers = stack.layers * layer
        if recipe.checkpointing:
            layers = min(layers, stack.layers * WIDE * config.dim + 2 * layer)
        bytes_ += tokens * (layers + WIDE * NORM * config.dim)
    if config.head is not None:
        read = recipe.mask_share * 1.25 if recipe.objective == "mask" else 1.0
        bytes_ += round(tokens * read * config.vocab_size * (WIDE * LOSS + narrow * NARROW))
    return bytes_


def _layer(stack: Stack, dim: int, recipe: Recipe, width: int, explicit: bool) -> int:
    """Bytes per token that one layer keeps."""
    sublayers = 2 if stack.cross is None else 3
    wide = sublayers * len(stack.norm_places) * NORM * dim + sublayers * dim  # norms and residuals
    narrow = sum(
        _attention(attention, recipe, explicit)
        for attention in (stack.attention, stack.cross)
        if attention is not None
    )
    feedforward = stack.feedforward
    narrow += (4 if feedforward.gated else 2) * feedforward.hidden
    narrow += (width == NARROW) * sublayers * dim  # what a matrix reads, in its own type
    dropped = 2 * sublayers * dim if recipe.dropout else 0  # a mask and what it leaves
    return WIDE * (wide + dropped) + width * narrow


def _attention(a: Attention, recipe: Recipe, explicit: bool) -> int:
    """Values per token: query twice (scaled), key, value, what was mixed, and rotated ones."""
    rotated = a.head_dim * (a.heads + a.kv_heads) if a.rope is not None else 0
    pattern = a.heads * recipe.context * (PATTERN + 2 * bool(recipe.dropout))
    return a.head_dim * (3 * a.heads + 2 * a.kv_heads) + rotated + explicit * pattern


def _adapters(config: Config, recipe: Recipe) -> int:
    """Elements of the low-rank matrices."""
    lora = recipe.lora
    assert lora is not None
    return sum(
        lora.rank * sum(shape)
        for address, shape in parameters(config).items()
        if len(shape) == 2 and "layers." in address and address.split(".")[-2] in lora.targets
    )


def _elements(shape: tuple[int, ...]) -> int:
    size = 1
    for axis in shape:
        size *= axis
    return size
