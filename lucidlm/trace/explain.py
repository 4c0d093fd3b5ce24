"""Where one number came from: its equation with its operands, each with an address of its own, and
theirs in turn, down to weights and token ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lucidlm.locale import text
from lucidlm.trace.cells import Cell, find_cell
from lucidlm.trace.edits import BoundEdit
from lucidlm.trace.export import script, write_operands
from lucidlm.trace.mathml import mathml
from lucidlm.trace.numbers import Number, plain
from lucidlm.trace.operations import Worked
from lucidlm.trace.rounding import crosses, dtype_of, least, row_magnitude, tolerance
from lucidlm.trace.run import Run
from lucidlm.trace.site import Site
from lucidlm.trace.words import cell_words

SHOWN = 10  # terms in JSON
LEAVES = (".weight", ".bias", "ids", "segments")


@dataclass(frozen=True)
class TermOf:
    """One thing that was added up: a product of `factors`, each (address, value); a constant has
    the address "".
    """

    factors: tuple[tuple[str, float], ...]
    value: float


@dataclass(frozen=True)
class Rest:
    """The terms behind the largest: how many, and what they come to."""

    count: int
    sum: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation:
    """One recorded number and the arithmetic that makes it, in float64 from the recorded operands.

    A parameter and a token id are leaves: they have no equation and no terms. `seen` tells a value
    that was captured live from one that was computed again. `tolerance` is a share of `magnitude`,
    what rounding errors are a multiple of: nearly always the sum of the absolute values of what was
    added up. `edited`: an edit wrote the number, and the difference is what it did.
    """

    cell: Cell
    seen: bool
    edited: bool = False
    worked: Worked | None = None
    tolerance: float = 0.0
    magnitude: float = 0.0
    inner: tuple[Explanation, ...] = ()

    @property
    def address(self) -> str:
        return self.cell.address

    @property
    def value(self) -> Number:
        """As recorded."""
        return self.cell.value

    @property
    def equation(self) -> str:
        """In letters; empty for a leaf."""
        return "" if self.cell.site is None else self.cell.site.equation

    @property
    def mathml(self) -> str:
        """The equation as MathML."""
        return mathml(self.equation) if self.equation else ""

    @property
    def expression(self) -> str:
        """The equation in numbers."""
        return "" if self.worked is None else self.worked.expression

    @property
    def steps(self) -> tuple[tuple[str, float, str], ...]:
        """Named numbers on the way: (name, value, address or "")."""
        return () if self.worked is None else self.worked.steps

    @property
    def total(self) -> float:
        """The result in float64."""
        return self._recorded if self.worked is None else self.worked.total

    @property
    def difference(self) -> float:
        """Recorded minus total; 0 where both are the same infinity."""
        return 0.0 if self._recorded == self.total else self._recorded - self.total

    @property
    def agrees(self) -> bool:
        """Whether the recorded value is the total, but for rounding; so also where there is none to
        compare: an edit wrote it, or the run had no need of it.
        """
        if self.edited or math.isnan(self._recorded):
            return True
        return abs(self.difference) <= self.tolerance * self.magnitude

    @cached_property
    def terms(self) -> tuple[TermOf, ...]:
        """All of them, largest first."""
        return self.top(len(self._values))

    def top(self, n: int) -> tuple[TermOf, ...]:
        """The `n` terms of largest absolute value."""
        return tuple(self._term(int(i)) for i in self._order[:n])

    def rest(self, n: int) -> Rest:
        """What `top(n)` leaves out."""
        left = self._values[self._order[n:]]
        return Rest(left.size, float(left.sum()))

    def note(self, lang: str) -> str | None:
        """A sentence about this cell (why it is masked, what cut a candidate), if there is one."""
        if self.edited:
            return text("glass.edited_cell", lang)
        if self.worked is not None and self.worked.note is not None:
            key, values = self.worked.note
            return text(key, lang, **values)
        is_empty = self.value is not None and math.isnan(self._recorded)
        return text("glass.not_computed", lang) if is_empty else None

    def words(self, lang: str) -> str:
        """What this number is, in a sentence or two."""
        return cell_words(self.cell, lang)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Explanation]]:
        """This explanation and all inside it, each with how deep it is."""
        yield depth, self
        for one in self.inner:
            yield from one.walk(depth + 1)

    def save_operands(self, path: str | Path) -> None:
        """Write what `program` reads, as .npz."""
        write_operands(Path(path), self._arrays)

    def program(self, path: str | Path) -> str:
        """A short NumPy script that loads the operands saved at `path` and prints the number."""
        body = "value = recorded" if self.worked is None else self.worked.program
        return script(self.address, self.equation, Path(path), tuple(self._arrays), body)

    def to_json(self, lang: str = "en", terms: int = SHOWN) -> dict[str, Any]:
        """Plain values; numbers that JSON does not have (minus infinity) are strings."""
        rest = self.rest(terms)
        return {
            "address": self.address,
            "kind": self.cell.kind if self.cell.site is None else self.cell.site.operation.kind,
            "value": plain(self.value),
            "seen": self.seen,
            "words": self.words(lang),
            "equation": self.equation,
            "mathml": self.mathml,
            "expression": self.expression,
            "terms": [
                {
                    "value": plain(term.value),
                    "factors": [{"address": at, "value": plain(x)} for at, x in term.factors],
                }
                for term in self.top(terms)
            ],
            "rest": {"count": rest.count, "sum": plain(rest.sum)},
            "steps": [{"name": n, "value": plain(x), "address": at} for n, x, at in self.steps],
            "total": plain(self.total),
            "difference": plain(self.difference),
            "tolerance": self.tolerance,
            "agrees": self.agrees,
            "edited": self.edited,
            "note": self.note(lang),
            "inner": [one.to_json(lang, terms) for one in self.inner],
        }

    @property
    def _recorded(self) -> float:
        return math.nan if self.value is None else float(self.value)

    @property
    def _arrays(self) -> Mapping[str, Any]:
        return {"recorded": self.value} if self.worked is None else self.worked.arrays

    @property
    def _values(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.zeros(0) if self.worked is None else self.worked.terms.values

    @cached_property
    def _order(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.argsort(-np.abs(self._values), kind="stable")

    def _term(self, i: int) -> TermOf:
        assert self.worked is not None
        terms = self.worked.terms
        values = (float(factor[i]) for factor in terms.factors)
        return TermOf(tuple(zip(terms.addresses(i), values, strict=True)), float(terms.values[i]))


def explain(run: Run, address: str, depth: int = 0, breadth: int = 3) -> Explanation:
    """How the number at `address` came about; `depth` levels of its largest `breadth` operands are
    explained too.

    Raises TraceError or UnknownName where `address` is not one number of this run.
    """
    cell = find_cell(run, address)
    if (site := cell.site) is None:
        return Explanation(cell=cell, seen=True)
    worked = site.operation.cell(run, cell.index)
    found = Explanation(
        cell=cell,
        seen=run.is_seen(site.address, cell.index[0] if cell.index else None),
        edited=any(_writes(edit, cell) for edit in run.edits),
        worked=worked,
        tolerance=tolerance(run, site),
        magnitude=_magnitude(run, cell, site, worked),
    )
    if depth <= 0:
        return found
    inner = tuple(explain(run, one, depth - 1, breadth) for one in _operands(found, breadth))
    return replace(found, inner=inner)


def _writes(edit: BoundEdit, cell: Cell) -> bool:
    return edit.site.address == cell.name and bool(edit.mask(cell.shape)[cell.index])


def _magnitude(run: Run, cell: Cell, site: Site, worked: Worked) -> float:
    """What the rounding of a cell is a multiple of, as `verify` has it."""
    magnitude = worked.magnitude
    if magnitude is None:
        sizes = np.abs(worked.terms.values)
        magnitude = float(sizes[np.isfinite(sizes)].sum())
    if crosses(run, site):
        first = cell.index[0] - run.start(site.address)
        row = run.read(site.address)[(first, *cell.index[1:])[:-1]]
        magnitude = max(magnitude, float(row_magnitude(row)[0]))
    return max(magnitude, least(dtype_of(run, site)))


def _operands(found: Explanation, breadth: int) -> list[str]:
    """Addresses of the largest `breadth` cells that a number was made of, and of the parameters
    beside them.
    """
    factors = [address for term in found.top(breadth) for address, _ in term.factors]
    named = factors if any(factors) else [address for _, _, address in found.steps]
    chosen: list[str] = []
    cells = 0
    for address in dict.fromkeys(filter(None, named)):
        is_leaf = address.partition("[")[0].endswith(LEAVES)
        if is_leaf or cells < breadth:
            chosen.append(address)
            cells += not is_leaf
    return chosen
