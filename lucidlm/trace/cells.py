"""One cell of a run by its address: of a site, of a parameter, or a token id. All else has a name
that says where it came from; these are what an explanation is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lucidlm.errors import TraceError
from lucidlm.parameters import parameters
from lucidlm.trace.address import At, parse
from lucidlm.trace.aliases import resolve
from lucidlm.trace.numbers import Number
from lucidlm.trace.operations import Index, cell
from lucidlm.trace.run import INDICES, Run
from lucidlm.trace.site import PARAMETERS, Site, parameter_axes


@dataclass(frozen=True, kw_only=True)
class Cell:
    """`index` is absolute, along `axes`; `site` is None for a parameter or an id."""

    kind: Literal["site", "parameter", "ids"]
    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    index: Index
    value: Number
    site: Site | None
    labels: Mapping[str, str]  # of the tokens it is about, by axis

    @property
    def address(self) -> str:
        return cell(self.name, *zip(self.axes, self.index, strict=True)) if self.axes else self.name


def find_cell(run: Run, text: str) -> Cell:
    """The cell at the address `text`, which must fix every axis; negative numbers count from the
    end.

    Raises TraceError for an address that is none, that names no single number, or that lies outside
    the run, and what `run.site` raises for a name that does not exist.
    """
    called, bracket, inside = text.strip().partition("[")
    name = called.strip()
    site: Site | None = None
    kind: Literal["site", "parameter", "ids"] = "site"
    axes: tuple[str, ...]
    if name.rpartition(".")[2] in INDICES and name not in run.catalogue:
        if name.rpartition(".")[0] not in _stacks(run):
            raise TraceError("trace.bad_address", address=text, example="ids[position=0]")
        kind, array, axes = "ids", run.read(name), ("position",)
    elif run.config is not None and name.endswith(PARAMETERS):
        kind, name = "parameter", resolve(name, run.config, parameters(run.config))
        array = run.weight(name)
        axes = parameter_axes(name, array.ndim)
    else:
        site = run.site(name)
        if site.part == "tokenizer" and site.key != "tokenizer.ids":
            raise TraceError("trace.not_numbers", address=site.address)
        name, axes = site.address, site.axes
        array = np.asarray(run.read(name))
    start = run.start(name) if site is not None else 0
    at = parse(f"{name}{bracket}{inside}", {name: axes})
    places = at.index(axes, array.shape, start)
    whole = tuple(place for place in places if not isinstance(place, slice))
    if len(whole) < len(axes):
        free = [axis for axis, place in zip(axes, places, strict=True) if isinstance(place, slice)]
        example = cell(name, *zip(axes, _first(places, array.shape, start), strict=True))
        raise TraceError("trace.need_cell", address=str(at), axes=", ".join(free), example=example)
    index = tuple(place + (0 if n else start) for n, place in enumerate(whole))
    value: Any = array[whole]
    if value is None:
        raise TraceError("trace.not_of_the_text", position=whole[0])
    value = value.item() if isinstance(value, np.generic) else value
    return Cell(
        kind=kind,
        name=name,
        axes=axes,
        shape=array.shape,
        index=index,
        value=value,
        site=site,
        labels=dict(_labels(run, name, site, axes, index)),
    )


def _first(places: Sequence[At], shape: Sequence[int], start: int) -> Iterator[int]:
    """The first of the cells at `places`, absolute."""
    for n, (place, size) in enumerate(zip(places, shape, strict=True)):
        at = place.indices(size)[0] if isinstance(place, slice) else place
        yield at + (0 if n else start)


def _labels(
    run: Run, name: str, site: Site | None, axes: Sequence[str], index: Index
) -> Iterator[tuple[str, str]]:
    """The axes along which tokens stand, and the token at `index`."""
    lengths: Sequence[int | str] = (0,) * len(axes)
    if site is not None:
        lengths = site.sizes
    elif axes == ("position",):
        lengths = ("sources" if name == "encoder.ids" else "positions",)
    for axis, at, length in zip(axes, index, lengths, strict=True):
        row = run.sources if length == "sources" else run.tokens
        if isinstance(length, str) and at < len(row):
            yield axis, row[at].label
        elif axis == "word":
            yield axis, run.label(at)


def _stacks(run: Run) -> Sequence[str]:
    """What stands before `.ids`: nothing, or one of two stacks."""
    return ("encoder", "decoder") if run.sources else ("",)
