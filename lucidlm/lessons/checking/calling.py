"""One call of a reader's function: its arguments as NumPy arrays or as tensors, and what came of
it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lucidlm.lessons.checking.attention import Array
from lucidlm.lessons.checking.cases import Case
from lucidlm.lessons.checking.compare import fault_of, kind_of, to_array, wrong_cells
from lucidlm.lessons.checking.functions import Function
from lucidlm.lessons.checking.verdict import Status

SHOWN = 8  # numbers of an array that is shown whole


@dataclass(frozen=True, eq=False)
class Call:
    """What a function did with one case: it returned `value`, or raised `error`."""

    case: Case
    value: Any = None
    error: BaseException | None = None
    mutated: str | None = None  # the argument that was written into

    @property
    def array(self) -> Array | None:
        return to_array(self.value)

    def fault(self, expected: Array) -> Status | None:
        """What is wrong with it, if anything is."""
        if self.error is not None:
            return "unwritten" if isinstance(self.error, NotImplementedError) else "raised"
        found = self.array
        if fault := fault_of(self.value, found, expected):
            return fault
        assert found is not None
        if (wrong := wrong_cells(found, expected)).any():
            return "nan" if np.isnan(found[wrong][0]) else "wrong"
        return "mutated" if self.mutated else None

    def facts(self, expected: Array, fault: Status, file: str) -> dict[str, Any]:
        """What a `Verdict` says about such a fault."""
        if self.error is not None:
            return {"detail": last_line(self.error), "line": line_in(file, self.error)}
        if fault == "mutated":
            return {"detail": self.mutated}
        found = self.array
        if found is None or fault in ("type", "dtype"):
            return {"detail": kind_of(self.value)}
        if fault == "shape":
            return {"expected_shape": expected.shape, "found_shape": found.shape}
        wrong = wrong_cells(found, expected)
        cell = tuple(int(i) for i in np.argwhere(wrong)[0])
        return {
            "cell": cell,
            "expected": expected[cell].item(),
            "found": found[cell].item(),
            "wrong": int(wrong.sum()),
            "cells": wrong.size,
        }


def call(function: Callable[..., Any], case: Case, names: Function, torch: Any) -> Call:
    """Call it with copies of the case's arguments, as tensors if there is a `torch`."""
    given = [_converted(argument, torch) for argument in case.arguments]
    try:
        with np.errstate(all="ignore"):
            value = function(*given)
    except (Exception, SystemExit) as error:
        return Call(case, error=error)
    before = dict(_leaves(names, [_converted(each, torch) for each in case.arguments]))
    after = dict(_leaves(names, given))
    changed = (name for name in before if not _equal(before[name], after.get(name)))
    return Call(case, value, mutated=next(changed, None))


def described(name: str, function: Function, case: Case) -> str:
    """`attention(q (5, 6), k (5, 6), v (5, 6))`; small arrays and numbers are written out."""
    pairs = zip(function.parameters, case.arguments, strict=False)  # the mask may be left out
    return f"{name}({', '.join(_shown(*pair) for pair in pairs)})"


def last_line(error: BaseException) -> str:
    """`ValueError: shapes do not fit`"""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return lines[-1].strip()[:300]


def line_in(file: str, error: BaseException) -> int | None:
    """The last line of `file` that the error went through, or that it is a syntax error of."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)


def _converted(argument: Any, torch: Any) -> Any:
    """A copy; a tensor is float32, which is what PyTorch's own default makes of new ones."""
    if isinstance(argument, Mapping):
        return {name: _converted(each, torch) for name, each in argument.items()}
    if not isinstance(argument, np.ndarray):
        return argument
    if torch is None:
        return argument.copy()
    tensor = torch.from_numpy(argument.copy())
    return tensor.float() if argument.dtype.kind == "f" else tensor


def _leaves(function: Function, arguments: list[Any]) -> Iterator[tuple[str, Any]]:
    """Every array among the arguments, by its name: `x`, `params['w_q']`."""
    for name, argument in zip(function.parameters, arguments, strict=False):
        if isinstance(argument, Mapping):
            yield from ((f"{name}[{key!r}]", each) for key, each in argument.items())
        else:
            yield name, argument


def _equal(before: Any, after: Any) -> bool:
    was, now = to_array(before), to_array(after)
    return (
        was is not None and now is not None and was.shape == now.shape and bool((was == now).all())
    )


def _shown(name: str, argument: Any) -> str:
    if isinstance(argument, Mapping):
        return name
    if isinstance(argument, np.ndarray):
        return (
            f"{name}={_written(argument)}" if argument.size <= SHOWN else f"{name} {argument.shape}"
        )
    return f"{name}={argument:g}"


def _written(array: Any) -> str:
    if isinstance(array, np.ndarray) and array.ndim:
        return f"[{', '.join(map(_written, array))}]"
    return str(bool(array)) if array.dtype.kind == "b" else f"{array:g}"
