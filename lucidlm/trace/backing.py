"""What was captured of one sequence, put together from the passes that read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from lucidlm.trace.arrange import arrange, to_array
from lucidlm.trace.operations import Array
from lucidlm.trace.recorder import Node
from lucidlm.trace.rows import LOOKS
from lucidlm.trace.site import Site

# What a key that a query did not look at has: the run computed no product there.
UNSEEN = {"pattern": 0.0, "scores": -np.inf, "products": np.nan, "position_bias": np.nan}


class Backing(Protocol):
    """Captured values, whole sites along the catalogue's axes."""

    @property
    def addresses(self) -> frozenset[str]:
        """Sites that were captured at every position."""
        ...

    def read(self, address: str) -> Array: ...

    def logits(self, position: int) -> Array:
        """(vocab,), of a position that a token was chosen from."""
        ...


@dataclass(frozen=True, eq=False)
class Live:
    """The passes of a run, in this process."""

    sites: Mapping[str, Site]
    nodes: list[Node]  # of the stack that ends in the head
    source: Node | None  # of the encoder before it
    whole_head: bool  # the head saw every position

    @cached_property
    def lengths(self) -> tuple[int, int]:
        """Positions that were read, and those of the source."""
        last = self.nodes[-1]
        positions = last.step.starts[last.row] + last.step.counts[last.row]
        return positions, 0 if self.source is None else self.source.step.counts[self.source.row]

    @cached_property
    def addresses(self) -> frozenset[str]:
        first = set(self.nodes[0].step.values)
        if self.source is not None:
            first |= set(self.source.step.values)
        if not self.whole_head:
            first = {a for a in first if a in self.sites and self.sites[a].part != "head"}
        return frozenset(first)

    def read(self, address: str) -> Array:
        site = self.sites[address]
        if "positions" not in site.sizes:  # read once, whole: what is of the source, or of no place
            node = self.source if address.startswith("encoder.") else self.nodes[0]
            assert node is not None
            cut = (slice(self.lengths[1] if n == "sources" else n) for n in site.sizes)
            return arrange(site, to_array(node.step.values[address][node.row]))[tuple(cut)]
        parts = list(self._parts(address, site))
        if len(parts) == 1:
            return parts[0]
        if site.axes != LOOKS:
            return np.concatenate(parts)
        shape = site.shape(*self.lengths)
        if site.sizes[2] == "sources":
            return np.concatenate(parts, axis=1)
        found = np.full(shape, UNSEEN[site.key.rpartition(".")[2]], parts[0].dtype)
        start = 0
        for part in parts:
            found[:, start : start + part.shape[1], : part.shape[2]] = part
            start += part.shape[1]
        return found

    def logits(self, position: int) -> Array:
        for node in self.nodes:
            start, count = node.step.starts[node.row], node.step.counts[node.row]
            if start <= position < start + count:
                row = to_array(node.step.values["head.logits"][node.row])
                logits: Array = row[position - start if self.whole_head else -1]
                return logits
        raise AssertionError(position)

    def _parts(self, address: str, site: Site) -> Iterator[Array]:
        """The value in each pass, padding cut off."""
        for node in self.nodes:
            start, count = node.step.starts[node.row], node.step.counts[node.row]
            value = arrange(site, to_array(node.step.values[address][node.row]))
            if site.axes == LOOKS:
                width = self.lengths[1] if site.sizes[2] == "sources" else start + count
                yield value[:, :count, :width]
            else:
                yield value[:count]
