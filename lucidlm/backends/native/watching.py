"""One call of the native model under a tracer's eyes: which values are kept, which are changed, and
how they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from lucidlm.backends.native.sites import Floats, NativeSite
from lucidlm.engine import ForeseeingTracer, Tracer
from lucidlm.errors import TraceError

Key = tuple[str, str]


class Watching:
    """`sites` are those that the call passes. `counts` are the new positions of each row, `starts`
    where they begin; `heads` says the same of the head, which may see fewer. `keys` are the
    positions that a row of scores has, `memory` those of cross-attention.
    """

    def __init__(
        self,
        module: Any,
        layers: int,
        sites: Iterable[NativeSite],
        tracer: Tracer,
        *,
        counts: Sequence[int],
        starts: Sequence[int],
        head: tuple[Sequence[int], Sequence[int]],
        keys: int,
        memory: int = 0,
    ) -> None:
        self.tracer, self.counts, self.starts, self.head = tracer, counts, starts, head
        self.keys, self.memory = keys, memory
        foresees = hasattr(tracer, "changes")
        self.foreseeing = cast(ForeseeingTracer, tracer) if foresees else None
        looks = self.foreseeing.looks_at if self.foreseeing else None  # None: at everything
        changes: frozenset[Key] = self.foreseeing.changes if self.foreseeing else frozenset()
        self.native = module.Watch(layers, max(keys, memory))
        there = [site for site in sites if site.number is not None]
        self.kept = [site for site in there if looks is None or (site.path, site.name) in looks]
        span = self.native.span
        self.values = {site: site.room(sum(self._rows(site)[0]), span) for site in self.kept}
        for site, array in self.values.items():
            self.native.keep(site.number, array)
        changed = {site.number: site for site in there if (site.path, site.name) in changes}
        self.by_number = changed
        if changed:
            self.native.edit(list(changed), self._change)

    def show(self, *, head: bool) -> None:
        """Give the tracer what it looks at in the head, or before it, in order of computation."""
        for site, flat in self.values.items():
            if site.path.startswith("head") is head:
                counts, _ = self._rows(site)
                show(self.tracer, site, site.shaped(flat, counts, self._keys(site)))

    def _change(self, number: int, row: int, values: Floats) -> None:
        """Change one row of a site in place."""
        site = self.by_number[number]
        counts, starts = self._rows(site)
        batch, before = 0, 0
        while row >= before + counts[batch]:
            before += counts[batch]
            batch += 1
        position = starts[batch] + row - before
        keys = self._keys(site)
        value = site.shaped(values[None].copy(), [1], keys)
        assert self.foreseeing is not None
        changed = self.foreseeing.change(site.path, site.name, value, [position], [1])
        flat = changed[0].swapaxes(0, 1)[0] if site.heads else changed[0]
        values.reshape(max(1, site.heads), -1)[:, : flat.shape[-1]] = flat

    def _rows(self, site: NativeSite) -> tuple[Sequence[int], Sequence[int]]:
        """New positions of each row, and where they begin."""
        return self.head if site.path.startswith("head") else (self.counts, self.starts)

    def _keys(self, site: NativeSite) -> int:
        return self.memory if site.path.endswith("cross_attention") else self.keys


def show(tracer: Tracer, site: NativeSite, value: Floats) -> None:
    """One value to the tracer. It was used already: only a tracer that says beforehand what it
    changes can change anything.
    """
    seen = cast(ForeseeingTracer, tracer).seen if hasattr(tracer, "changes") else tracer
    if seen(site.path, site.name, value) is not value:
        raise TraceError("trace.native_changed", address=site.address)
