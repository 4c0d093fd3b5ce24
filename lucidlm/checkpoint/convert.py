"""A family's rules at work: their tensors to our parameters and back, without losing a bit."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lucidlm.checkpoint.tensors import TensorSource
from lucidlm.config import Config, Stack
from lucidlm.errors import CheckpointError
from lucidlm.families.family import Rule
from lucidlm.parameters import parameters
from lucidlm.stored import Stored

Array = NDArray[np.floating]


def expand(rules: Sequence[Rule], config: Config) -> list[Rule]:
    """The rules for this config: one for each layer where it says {i}, and only those whose
    parameters it has.
    """
    there = _shapes(config)
    layers = max(stack.layers for stack in config.stacks.values())
    every = (
        rule.layer(i)
        for rule in rules
        for i in (range(layers) if "{i}" in rule.parts[0] else range(1))
    )
    return [rule for rule in every if all(part in there for part in rule.parts)]


def read_weights(
    source: TensorSource,
    rules: Sequence[Rule],
    config: Config,
    *,
    prefix: str = "",
    ignored: Sequence[str] = (),
    dtype: DTypeLike = np.float32,
) -> Iterator[tuple[str, Array]]:
    """Every parameter's address and array, one tensor of `source` at a time.

    All names and shapes are compared with the config before the first tensor is read, so that a
    file's header cannot make us allocate more than its own config says. Raises CheckpointError for
    what is missing, left over, or of another shape.
    """
    for rule, name in _chosen(source, rules, config, prefix, ignored):
        yield from _ours(rule, source.read(name, dtype), config)


def stored_weights(
    source: TensorSource,
    rules: Sequence[Rule],
    config: Config,
    *,
    prefix: str = "",
    ignored: Sequence[str] = (),
    formats: Collection[str],
) -> Iterator[tuple[str, Stored]]:
    """Every parameter's address and what is stored of it, for who reads blocks himself; what is
    not in one of `formats`, or would have to be changed by more than the order of its rows, comes
    as "F32". Raises what `read_weights` does.
    """
    for rule, name in _chosen(source, rules, config, prefix, ignored):
        format = source.dtype(name)
        shifted = rule.minus_offset and _shift(config) != 0
        changed = rule.transpose or rule.leading_axis or shifted
        if format not in formats or changed or len(source.shape(name)) != 2:
            for part, array in _ours(rule, source.read(name, np.float32), config):
                yield part, Stored("F32", array.reshape(-1).view(np.uint8), array.shape, None)
            continue
        data, order = source.stored(name), None
        rows, columns = source.shape(name)
        if rule.interleaved:
            turned = _turn(np.arange(rows, dtype=np.float64), _heads(rule, config), to_halves=True)
            order = turned.astype(np.int32)
        row_bytes, at = len(data) // rows, 0
        for part in rule.parts:
            count = _shapes(config)[part][0]
            piece = data[at * row_bytes : (at + count) * row_bytes]
            yield part, Stored(format, piece, (count, columns), order)
            at += count


def _chosen(
    source: TensorSource,
    rules: Sequence[Rule],
    config: Config,
    prefix: str,
    ignored: Sequence[str],
) -> list[tuple[Rule, str]]:
    """Each rule and the tensor it speaks of, all names and shapes compared with the config."""
    concrete = expand(rules, config)
    names = set(source.names)
    chosen = [(rule, _find(rule, names, prefix)) for rule in concrete]
    _nothing_left(names, concrete, prefix, ignored)
    missing = _shapes(config).keys() - {part for rule in concrete for part in rule.parts}
    assert not missing, f"no rule for {sorted(missing)[:3]}"
    for rule, name in chosen:
        wanted = _theirs_shape(rule, config)
        if source.shape(name) != wanted:
            raise CheckpointError(
                "mapping.shape", name=name, found=source.shape(name), wanted=wanted
            )
    return chosen


def write_weights(
    weights: Mapping[str, Array], rules: Sequence[Rule], config: Config
) -> Iterator[tuple[str, Array]]:
    """The inverse: their names and arrays, one at a time."""
    for rule in expand(rules, config):
        yield rule.theirs, _theirs(rule, [weights[part] for part in rule.parts], config)


def _find(rule: Rule, names: set[str], prefix: str) -> str:
    """The name in the file that this rule speaks of: its own, a tied copy's, either without the
    family's prefix.
    """
    for name in (rule.theirs, *rule.also):
        for spelling in (name, name.removeprefix(prefix)):
            if spelling in names:
                return spelling
    raise CheckpointError("mapping.missing", name=rule.theirs, ours=", ".join(rule.parts))


def _nothing_left(
    names: set[str], rules: Sequence[Rule], prefix: str, ignored: Sequence[str]
) -> None:
    known = {name for rule in rules for name in (rule.theirs, *rule.also)}
    known |= {name.removeprefix(prefix) for name in known}
    left = sorted(
        n for n in names - known if not any(re.fullmatch(pattern, n) for pattern in ignored)
    )
    if left:
        raise CheckpointError("mapping.left_over", count=len(left), names=", ".join(left[:3]))


def _ours(rule: Rule, array: Array, config: Config) -> Iterator[tuple[str, Array]]:
    if rule.leading_axis:
        array = array[0]
    if rule.transpose:
        array = array.T
    if rule.interleaved:
        array = _turn(array, _heads(rule, config), to_halves=True)
    if rule.minus_offset and (shift := _shift(config)):
        array = array + shift
    shapes = _shapes(config)
    rows = np.cumsum([shapes[part][0] for part in rule.parts])[:-1]
    for part, piece in zip(
        rule.parts, np.split(array, rows) if len(rows) else [array], strict=True
    ):
        yield part, np.ascontiguousarray(piece)


def _theirs(rule: Rule, arrays: Sequence[Array], config: Config) -> Array:
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    if rule.minus_offset and (shift := _shift(config)):
        array = array - shift
    if rule.interleaved:
        array = _turn(array, _heads(rule, config), to_halves=False)
    if rule.transpose:
        array = array.T
    if rule.leading_axis:
        array = array[None]
    return np.ascontiguousarray(array)


def _theirs_shape(rule: Rule, config: Config) -> tuple[int, ...]:
    shapes = [_shapes(config)[part] for part in rule.parts]
    shape = (sum(s[0] for s in shapes), *shapes[0][1:])
    shape = shape[::-1] if rule.transpose else shape
    return (1, *shape) if rule.leading_axis else shape


def _turn(array: Array, heads: int, *, to_halves: bool) -> Array:
    """Rotary rows of each head: pairs side by side (0 1, 2 3, ...) to halves (0 2 ..., 1 3 ...), or
    back.
    """
    half = array.shape[0] // heads // 2
    pairs = (heads, half, 2) if to_halves else (heads, 2, half)
    return array.reshape(*pairs, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def _heads(rule: Rule, config: Config) -> int:
    attention = _decoder(config).attention
    return attention.heads if rule.interleaved == "heads" else attention.kv_heads


def _shift(config: Config) -> float:
    """What the file's norm weights lack: files store w - 1, and a config whose offset is not 1
    holds w itself.
    """
    return 1.0 - _decoder(config).norm.offset


def _decoder(config: Config) -> Stack:
    assert config.decoder is not None
    return config.decoder


@cache
def _shapes(config: Config) -> dict[str, tuple[int, ...]]:
    return parameters(config)
