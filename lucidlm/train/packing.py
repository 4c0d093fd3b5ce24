"""Which document lies where: pieces beside each other in lines of one width.

A document that is longer than a line is cut; where, moves from epoch to epoch, so that every place
of it is seen with something before it. The plan of an epoch depends on the seed and the epoch
alone.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Longs = NDArray[np.int64]
OPEN = 64  # lines that are not yet closed


@dataclass(frozen=True, eq=False)
class Plan:
    """The pieces of an epoch in order of their lines.

    Piece p has `length[p]` inputs from flat index `start[p]` on (of its document's second side
    `other_length[p]` from `other_start[p]`), and begins at `column[p]` (`other_column[p]`) of its
    line, in which it is number `place[p]`. Line l has pieces first[l] to first[l + 1] - 1.
    """

    start: Longs
    length: Longs
    column: Longs
    other_start: Longs
    other_length: Longs
    other_column: Longs
    place: Longs
    first: Longs

    @property
    def lines(self) -> int:
        return len(self.first) - 1


def epoch_documents(
    ranges: Sequence[tuple[int, int]], repeats: Sequence[float], seed: int, epoch: int
) -> Longs:
    """The documents that an epoch reads, shuffled: `ranges[s]` are those of source s, each there
    `repeats[s]` times. Of a fraction, every epoch has other ones until all have had their turn.
    """
    found = []
    for number, ((begin, end), repeat) in enumerate(zip(ranges, repeats, strict=True)):
        own, count = np.arange(begin, end), end - begin
        found += [own] * int(repeat)
        share = repeat - int(repeat)
        if share and count:
            turns = np.random.default_rng([seed, number]).permutation(own)
            cuts = [round(share * n * count) for n in (epoch, epoch + 1)]
            found.append(turns[np.arange(*cuts) % count])
    every = np.concatenate(found) if found else np.zeros(0, np.int64)
    return np.random.default_rng([seed, 1, epoch]).permutation(every)


def plan(
    documents: Longs,
    starts: Longs,
    lengths: Longs,
    width: int,
    rng: np.random.Generator,
    *,
    other: tuple[Longs, Longs] | None = None,
    pack: bool = True,
) -> Plan:
    """Lay `documents` into lines of `width`; document d has `lengths[d]` inputs from `starts[d]`.

    `other` are starts and lengths of second sides, which are packed in the same lines; with them
    nothing is cut, and a document that does not fit is left out.
    """
    other_starts, other_lengths = other or (np.zeros_like(starts), np.zeros_like(lengths))
    pieces = _pieces(
        documents, starts, lengths, width, rng, other_starts, other_lengths, other is not None
    )
    start, length, other_start, other_length = pieces
    line, column, other_column = _laid(length, other_length, width, pack)
    order = np.argsort(line, kind="stable")
    counts = np.bincount(line, minlength=int(line.max(initial=-1)) + 1)
    first = np.concatenate([[0], np.cumsum(counts)])
    place = np.arange(len(order)) - np.repeat(first[:-1], counts)
    whole = Plan(
        start[order],
        length[order],
        column[order],
        other_start[order],
        other_length[order],
        other_column[order],
        place,
        first,
    )
    return _shuffled(whole, rng)


def _pieces(
    documents: Longs,
    starts: Longs,
    lengths: Longs,
    width: int,
    rng: np.random.Generator,
    other_starts: Longs,
    other_lengths: Longs,
    paired: bool,
) -> tuple[Longs, Longs, Longs, Longs]:
    fits = (lengths[documents] <= width) & (other_lengths[documents] <= width)
    whole, long = documents[fits], documents[~fits]
    parts = [(starts[whole], lengths[whole], other_starts[whole], other_lengths[whole])]
    for document in long if not paired else ():
        begin, size = int(starts[document]), int(lengths[document])
        cuts = np.arange(int(rng.integers(width)), size, width)
        edges = np.unique(np.concatenate([[0], cuts, [size]]))
        nothing = np.zeros(len(edges) - 1, np.int64)
        parts.append((begin + edges[:-1], np.diff(edges), nothing, nothing))
    start, length, other_start, other_length = (
        np.concatenate([part[i] for part in parts]).astype(np.int64) for i in range(4)
    )
    return start, length, other_start, other_length


def _laid(length: Longs, other_length: Longs, width: int, pack: bool) -> tuple[Longs, Longs, Longs]:
    """Line, column and other column of each piece: each goes where it leaves least room."""
    count = len(length)
    if not pack:
        return np.arange(count), np.zeros(count, np.int64), np.zeros(count, np.int64)
    line, column, other_column = (np.zeros(count, np.int64) for _ in range(3))
    rooms: list[tuple[int, int, int]] = []  # room, room of the other side, line; fullest first
    lines = 0
    for at, (size, other) in enumerate(zip(length.tolist(), other_length.tolist(), strict=True)):
        found = bisect_left(rooms, (size, other, -1))
        while found < len(rooms) and rooms[found][1] < other:
            found += 1
        if found < len(rooms):
            room, other_room, chosen = rooms.pop(found)
        else:
            room, other_room, chosen, lines = width, width, lines, lines + 1
        line[at], column[at], other_column[at] = chosen, width - room, width - other_room
        if room > size:
            insort(rooms, (room - size, other_room - other, chosen))
            if len(rooms) > OPEN:
                del rooms[0]
    return line, column, other_column


def _shuffled(whole: Plan, rng: np.random.Generator) -> Plan:
    """The same lines in another order."""
    order = rng.permutation(whole.lines)
    counts = np.diff(whole.first)[order]
    first = np.concatenate([[0], np.cumsum(counts)])
    pieces = np.repeat(whole.first[:-1][order] - first[:-1], counts) + np.arange(first[-1])
    return Plan(
        whole.start[pieces],
        whole.length[pieces],
        whole.column[pieces],
        whole.other_start[pieces],
        whole.other_length[pieces],
        whole.other_column[pieces],
        whole.place[pieces],
        first,
    )
