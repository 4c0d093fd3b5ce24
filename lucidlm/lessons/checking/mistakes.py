"""What is probably wrong: the known mistake, or two of them, that gives exactly these numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lucidlm.lessons.checking.attention import Array, Slips
from lucidlm.lessons.checking.cases import Case
from lucidlm.lessons.checking.compare import agree
from lucidlm.lessons.checking.functions import Function

AT_ONCE = 2  # mistakes that are looked for together


def right(function: Function, case: Case, convention: Slips) -> Array:
    """What the case should give."""
    return np.asarray(function.recipe(*case.arguments, slips=convention))


def causes(function: Function, calls: Sequence[tuple[Case, Array | None]]) -> tuple[str, ...]:
    """The mistakes that explain all `calls`, each with what it gave (None: it raised an error);
    nothing where none fits. The first call must be a wrong one: it rules most of them out.
    """
    for slips, convention in _attempts(function):
        made = {*slips, *convention}
        if all(_gives(function, case, made, found) for case, found in calls):
            return slips
    return ()


def _attempts(function: Function) -> Iterator[tuple[tuple[str, ...], Slips]]:
    """Single mistakes before pairs."""
    for number in range(1, AT_ONCE + 1):
        for slips in combinations(function.mistakes, number):
            for convention in function.conventions:
                yield slips, convention


def _gives(function: Function, case: Case, slips: Slips, found: Array | None) -> bool:
    """Whether the function with these mistakes does the same."""
    made = attempt(function, case, slips)
    if made is None or found is None:
        return made is found
    return agree(found, made)


def attempt(function: Function, case: Case, slips: Slips) -> Any:
    """What the function gives with these mistakes; None if it raises an error, as the reader's then
    does.
    """
    try:
        with np.errstate(all="ignore"):
            return np.asarray(function.recipe(*case.arguments, slips=slips))
    except (ValueError, IndexError):  # shapes that do not fit, a row that is not there
        return None
