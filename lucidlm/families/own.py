"""Our own format: any `Config` as JSON, and tensors under our own addresses.

The published families hold what others trained; this one holds what nobody published, from a model
set by hand to one trained here in a shape of its own. It has no counterpart elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass

from lucidlm.config import Attention, Config, Rope, Stack
from lucidlm.errors import ConfigError
from lucidlm.families.family import COMMON, HF, Family, Rule
from lucidlm.parameters import parameters
from lucidlm.plain import from_plain

NAME = "lucidlm"


def read(hf: HF) -> Config:
    """The `Config` that a config.json spells out.

    Raises ConfigError, naming the key, for one that is unknown, missing without a default, of the
    wrong type, or of a value that no model can have.
    """
    config = from_plain(Config, {k: v for k, v in hf.items() if k not in COMMON}, "config.json")
    for key, value, bound in _impossible(config):
        raise ConfigError("families.bound", key=key, value=value, bound=bound)
    return config


def write(config: Config) -> HF:
    """Every choice under its own name, defaults included."""
    return {"model_type": NAME, **asdict(config)}


def rules(config: Config) -> tuple[Rule, ...]:
    """Each parameter is its own tensor."""
    return tuple(Rule(address, address) for address in parameters(config))


Breach = tuple[str, object, str]  # key, its value, and what it must be


def _impossible(config: Config) -> Iterator[Breach]:
    """Values of the right type with which nothing can be computed."""
    if config.encoder is not None and config.encoder.cross is not None:
        yield "encoder.cross", "{...}", "null"
    for key, value in _numbers(config, ""):
        field = key.rpartition(".")[2]
        if field in ("base", "factor", "low_factor", "high_factor") and value <= 0:
            yield key, value, "> 0"
        if field == "eps" and value < 0:
            yield key, value, ">= 0"
    for name, stack in config.stacks.items():
        yield from _impossible_attention(f"{name}.attention", stack.attention, stack)


def _impossible_attention(at: str, attention: Attention, stack: Stack) -> Iterator[Breach]:
    local, relative = attention.local, attention.relative
    for key, rope in ((at, attention.rope), (f"{at}.local", local.rope if local else None)):
        if (
            isinstance(rope, Rope)
            and rope.scaling == "llama3"
            and rope.high_factor <= rope.low_factor
        ):
            yield f"{key}.rope.high_factor", rope.high_factor, f"> low_factor = {rope.low_factor}"
    for layer in local.layers if local else ():
        if layer >= stack.layers:
            yield f"{at}.local.layers", layer, f"< {stack.layers}"
    if relative is not None:
        exact = relative.buckets // (4 if stack.mask == "full" else 2)  # buckets of one distance
        if exact < 1:
            yield (
                f"{at}.relative.buckets",
                relative.buckets,
                ">= 4" if stack.mask == "full" else ">= 2",
            )
        elif relative.max_distance <= exact:
            yield f"{at}.relative.max_distance", relative.max_distance, f"> {exact}"


def _numbers(value: object, key: str) -> Iterator[tuple[str, float]]:
    """Every number of a config, with its key."""
    if is_dataclass(value):
        for field in fields(value):
            yield from _numbers(getattr(value, field.name), f"{key}.{field.name}".lstrip("."))
    elif isinstance(value, int | float):
        yield key, value


FAMILY = Family(name=NAME, model_types=(NAME,), read=read, write=write, rules=rules)
