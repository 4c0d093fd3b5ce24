"""Dataclasses as plain JSON values and back, strictly: what a file says is either understood or
refused by name.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lucidlm.errors import ConfigError, nearest

D = TypeVar("D")
LARGEST = 1 << 53  # what JSON's numbers hold exactly


def from_plain(kind: type[D], value: object, where: str, key: str = "") -> D:
    """The dataclass `kind` that `dataclasses.asdict` made `value` of, or JSON's version of it.

    `where` names the file in messages, `key` where in it `value` stands. Raises ConfigError for a
    key that is unknown, missing without a default, or of the wrong type.
    """
    if not isinstance(value, Mapping):
        raise _unknown(key, value, "{...}", where)
    hints, found = get_type_hints(kind), {}
    for name in value:
        if name not in hints:
            near = ", ".join(nearest(str(name), hints))
            raise ConfigError("plain.unknown_key", key=f"{key}{name}", where=where, nearest=near)
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in value:
            at = f"{key}{field.name}"
            found[field.name] = _value(hints[field.name], value[field.name], where, at)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError("plain.missing_key", key=f"{key}{field.name}", where=where)
    return kind(**found)


def _value(kind: Any, value: object, where: str, key: str) -> Any:
    """`value` as the type that a field has."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if NoneType in inner and value is None:
            return None
        rest = [one for one in inner if one is not NoneType]
        fitting = [one for one in rest if _fits(one, value)]
        return _value((fitting or rest)[0], value, where, key)
    if origin is Literal:
        if value not in inner or isinstance(value, bool):
            raise _unknown(key, value, ", ".join(map(str, inner)), where)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _unknown(key, value, "[...]", where)
        return tuple(_value(inner[0], one, where, f"{key}[{i}]") for i, one in enumerate(value))
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return from_plain(kind, value, where, f"{key}.")
    if kind is str:
        if not isinstance(value, str):
            raise _unknown(key, value, '"..."', where)
        return value
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise _unknown(key, value, "{...}", where)
        return dict(value)
    if kind is bool:
        if not isinstance(value, bool):
            raise _unknown(key, value, "true, false", where)
        return value
    return _whole(value, where, key) if kind is int else _real(value, where, key)


def _fits(kind: Any, value: object) -> bool:
    if get_origin(kind) is Literal or kind is str:
        return isinstance(value, str)
    return isinstance(value, bool) == (kind is bool)


def _whole(value: object, where: str, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        raise ConfigError("plain.number", key=key, value=reprlib.repr(value), where=where)
    return value


def _real(value: object, where: str, key: str) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            if math.isfinite(number := float(value)):
                return number
    except OverflowError:
        pass  # a whole number beyond every float
    raise ConfigError("plain.finite", key=key, value=reprlib.repr(value), where=where)


def _unknown(key: str, value: object, known: str, where: str) -> ConfigError:
    shown = reprlib.repr(value)
    return ConfigError("plain.value", key=key.rstrip("."), value=shown, where=where, known=known)
