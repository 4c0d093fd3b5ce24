"""Our own format: any `Config` as JSON, and tensors under our own addresses.

The published families hold what others trained; this one holds what nobody published, from a model
set by hand to one trained here in a shape of its own. It has no counterpart elsewhere.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields, is_dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lucidlm.config import Attention, Config, Rope, Stack
from lucidlm.errors import ConfigError, nearest
from lucidlm.families.family import COMMON, HF, Family, Rule, whole
from lucidlm.parameters import parameters

NAME = "lucidlm"


def read(hf: HF) -> Config:
    """The `Config` that a config.json spells out.

    Raises ConfigError, naming the key, for one that is unknown, missing without a default, of the
    wrong type, or of a value that no model can have.
    """
    config: Config = _object(Config, {k: v for k, v in hf.items() if k not in COMMON}, "")
    for key, value, bound in _impossible(config):
        raise ConfigError("families.bound", key=key, value=value, bound=bound)
    return config


def write(config: Config) -> HF:
    """Every choice under its own name, defaults included."""
    return {"model_type": NAME, **asdict(config)}


def rules(config: Config) -> tuple[Rule, ...]:
    """Each parameter is its own tensor."""
    return tuple(Rule(address, address) for address in parameters(config))


def _object(kind: type[Any], value: object, key: str) -> Any:
    """A dataclass from a JSON object; `key` is where the object stands."""
    if not isinstance(value, dict):
        raise _unknown(key, value, "{...}")
    known, hints, found = fields(kind), get_type_hints(kind), {}
    for name in value:
        if name not in hints:
            near = ", ".join(nearest(str(name), hints))
            raise ConfigError("families.unknown_key", key=f"{key}{name}", family=NAME, nearest=near)
    for field in known:
        if field.name in value:
            found[field.name] = _value(hints[field.name], value[field.name], f"{key}{field.name}")
        elif field.default is MISSING:
            raise ConfigError("families.missing_key", key=f"{key}{field.name}", family=NAME)
    return kind(**found)


def _value(kind: Any, value: object, key: str) -> Any:
    """`value` as the type that a field of `Config` has."""
    if NoneType in get_args(kind):
        (inner,) = (one for one in get_args(kind) if one is not NoneType)
        return None if value is None else _value(inner, value, key)
    if get_origin(kind) is Literal:
        if not isinstance(value, str) or value not in get_args(kind):
            raise _unknown(key, value, ", ".join(get_args(kind)))
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _unknown(key, value, "[...]")
        return tuple(_value(get_args(kind)[0], one, f"{key}[{i}]") for i, one in enumerate(value))
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return _object(kind, value, f"{key}.")
    if kind is bool:
        if not isinstance(value, bool):
            raise _unknown(key, value, "true, false")
        return value
    return whole(key, value, NAME) if kind is int else _real(key, value)


def _real(key: str, value: object) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if math.isfinite(number := float(value)):
                return number
    except OverflowError:
        pass  # a whole number beyond every float
    raise ConfigError("families.finite", key=key, value=reprlib.repr(value), family=NAME)


def _unknown(key: str, value: object, known: str) -> ConfigError:
    shown = reprlib.repr(value)
    return ConfigError("families.value", key=key.rstrip("."), value=shown, family=NAME, known=known)


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
