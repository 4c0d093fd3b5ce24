"""Everything that a run needs to go on as if nothing had happened, gathered and put back.

Weights and the optimiser's tensors by address. Data and random numbers need no state: a batch and
the seed of its dropout are functions of the recipe's seed and the step.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lucidlm.config import Config
from lucidlm.errors import TrainError
from lucidlm.model.transformer import Transformer
from lucidlm.train.devices import Processes
from lucidlm.train.recipe import Recipe
from lucidlm.train.sharding import local

WEIGHT, OPTIMISER = "weight.", "optimiser."

# What a resumed run may have otherwise: how long it goes on, what it reports, how it computes.
FREE = frozenset(
    """
    name steps save_every keep evaluate_every evaluate_rows sample_every samples
    precision attention compile checkpointing
    """.split()
)


Array = NDArray[Any]


class HasState(Protocol):
    """An optimiser, as far as a checkpoint goes."""

    processes: Processes

    def state(self) -> dict[str, Tensor]: ...

    def shapes(self) -> dict[str, torch.Size]: ...

    def load_state(self, state: dict[str, Tensor]) -> None: ...


def gather(model: Transformer, stepper: HasState) -> dict[str, Array]:
    """All tensors of the run's state by name; on a CPU the run's own memory, not copied. Of several
    processes, all of which have to ask, the first has them.
    """
    whole = stepper.processes.whole
    found = {WEIGHT + at: whole(local(w), len(w)) for at, w in _learnt(model).items()}
    found |= {OPTIMISER + at: tensor for at, tensor in stepper.state().items()}
    return {name: tensor.detach().cpu().numpy() for name, tensor in found.items()}


@torch.no_grad()
def put_back(model: Transformer, stepper: HasState, arrays: Mapping[str, Array]) -> None:
    """The opposite of `gather`, whatever number of processes it was gathered from. Raises
    TrainError where an array does not fit the run.
    """
    own = {WEIGHT + at: weight.shape for at, weight in _learnt(model).items()}
    own |= {OPTIMISER + at: shape for at, shape in stepper.shapes().items()}
    for name in own.keys() | arrays.keys():
        if name not in own or name not in arrays or own[name] != arrays[name].shape:
            raise TrainError("training.state_differs", name=name)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for at, weight in _learnt(model).items():
        local(weight).copy_(stepper.processes.own_rows(tensors[WEIGHT + at]))
    stepper.load_state(
        {n.removeprefix(OPTIMISER): t for n, t in tensors.items() if n.startswith(OPTIMISER)}
    )


def said(recipe: Recipe, config: Config, *, data: str, start: str | None) -> dict[str, Any]:
    """What a checkpoint belongs to: the recipe, fingerprints, and which libraries computed it."""
    return {
        "recipe": asdict(recipe),
        "fingerprints": {"data": data, "start": start},
        "config": asdict(config),
        "versions": {
            "lucidlm": _own_version(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with another recipe, model or data than `before`, naming what differs.

    A data file may have moved: what it holds is compared, not where it is. Raises TrainError.
    """
    old, new = _flat(before["recipe"]), _flat(now["recipe"])
    for key in sorted(old.keys() | new.keys()):
        if re.split(r"[.\[]", key)[0] in FREE or key.endswith(".path"):
            continue
        if old.get(key) != new.get(key):
            raise TrainError(
                "training.other_recipe", key=key, before=old.get(key, "-"), now=new.get(key, "-")
            )
    if before["fingerprints"]["data"] != now["fingerprints"]["data"]:
        raise TrainError("training.other_data")
    if before["fingerprints"]["start"] != now["fingerprints"]["start"]:
        raise TrainError("training.other_start", start=now["recipe"]["model"]["start"])
    old, new = _flat(before["config"]), _flat(now["config"])
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise TrainError(
                "training.other_config", key=key, before=old.get(key, "-"), now=new.get(key, "-")
            )


def _learnt(model: Transformer) -> dict[str, torch.nn.Parameter]:
    """The parameters that a run changes; frozen ones are read from where they came from."""
    return {at: weight for at, weight in model.weights().items() if weight.requires_grad}


def _own_version() -> str:
    try:
        return metadata.version("lucidlm")
    except metadata.PackageNotFoundError:  # run from its source
        return "-"


def _flat(value: object, key: str = "") -> dict[str, object]:
    """Every single value of nested objects and lists by its dotted key."""
    if isinstance(value, Mapping):
        pairs = [(f"{key}.{name}".lstrip("."), inner) for name, inner in value.items()]
    elif isinstance(value, list | tuple):
        pairs = [(f"{key}[{at}]", inner) for at, inner in enumerate(value)]
    else:
        return {key: value}
    return {name: one for at, inner in pairs for name, one in _flat(inner, at).items()}
