"""How one word becomes pieces, step by step: byte-pair merges, longest match first, the best path
through a lattice.

These are the three algorithms themselves, written out to be looked at; encoding for a model is done
by the `tokenizers` library. Each function takes a pre-token in the spelling of the vocabulary and
returns its steps and its ids.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Vocabulary = Mapping[str, int]


@dataclass(frozen=True)
class Merge:
    """Two neighbours became one. `at` counts symbols of `Merges.start`; a lower rank was learned
    earlier and goes first."""

    rank: int
    left: str
    right: str
    result: str
    at: int


@dataclass(frozen=True)
class Merges:
    """Byte-pair encoding (Sennrich et al. 2016): the symbols at the start, and the merges in the
    order they fired."""

    start: tuple[str, ...]
    merges: tuple[Merge, ...]
    ids: tuple[int, ...]

    def states(self) -> Iterator[tuple[str, ...]]:
        """The symbols at the start and after each merge."""
        symbols = dict(enumerate(self.start))
        yield self.start
        for merge in self.merges:
            following = next(at for at in range(merge.at + 1, len(self.start)) if at in symbols)
            del symbols[following]
            symbols[merge.at] = merge.result
            yield tuple(symbols.values())


@dataclass(frozen=True)
class Try:
    """WordPiece looked for `piece` at character `start` of the word."""

    start: int
    piece: str
    found: bool


@dataclass(frozen=True)
class LongestMatch:
    """WordPiece (Schuster & Nakajima 2012): every piece looked for, in order. With no way through,
    all is unknown."""

    tries: tuple[Try, ...]
    ids: tuple[int, ...]
    unknown: bool


@dataclass(frozen=True)
class Edge:
    """A piece that could cover characters `start` to `end` of the word, and its log-probability."""

    start: int
    end: int
    piece: str
    score: float
    id: int


@dataclass(frozen=True)
class Path:
    """A way to cut the word: its pieces and the sum of their log-probabilities."""

    edges: tuple[Edge, ...]
    score: float


@dataclass(frozen=True)
class Lattice:
    """Unigram (Kudo 2018): all pieces that fit, the best path (Viterbi 1967), and the best of the
    others if there is one."""

    edges: tuple[Edge, ...]
    best: Path
    runner_up: Path | None
    tokens: tuple[
        str, ...
    ]  # the pieces along the best path, neighbouring unknown characters as one
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Lookup:
    """The whole pre-token is one entry, or unknown, or (special tokens) was never cut."""

    ids: tuple[int, ...]


Steps = Merges | LongestMatch | Lattice | Lookup


class BytePairs:
    """Byte-pair encoding with a given vocabulary and merges."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.vocab: Vocabulary = model["vocab"]
        self.prefix: str = model.get("continuing_subword_prefix") or ""
        self.suffix: str = model.get("end_of_word_suffix") or ""
        self.unk: str | None = model.get("unk_token")
        self.fuse_unk: bool = model.get("fuse_unk", False)
        self.byte_fallback: bool = model.get("byte_fallback", False)
        self.whole_words: bool = model.get("ignore_merges", False)
        pairs = (tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"])
        self.ranks = {(left, right): rank for rank, (left, right) in enumerate(pairs)}

    def __call__(self, word: str) -> Steps:
        if self.whole_words and word in self.vocab:
            return Lookup((self.vocab[word],))
        start = tuple(self._symbols(word))
        symbols: list[str | None] = list(start)
        following = [*range(1, len(start)), -1]
        previous = list(range(-1, len(start) - 1))
        queue: list[tuple[int, int, str, str]] = []

        def offer(at: int) -> None:
            if at < 0 or following[at] < 0:
                return
            left, right = symbols[at], symbols[following[at]]
            assert left is not None and right is not None
            if (rank := self.ranks.get((left, right))) is not None:
                heapq.heappush(queue, (rank, at, left, right))

        for at in range(len(start)):
            offer(at)
        fired = []
        while queue:
            rank, at, left, right = heapq.heappop(queue)
            after = following[at]
            if symbols[at] != left or after < 0 or symbols[after] != right:
                continue  # a neighbour was merged away meanwhile
            result = left + right[len(self.prefix) :]
            fired.append(Merge(rank, left, right, result, at))
            symbols[at], symbols[after] = result, None
            following[at] = following[after]
            if following[at] >= 0:
                previous[following[at]] = at
            offer(previous[at])
            offer(at)
        ids = tuple(self.vocab[symbol] for symbol in symbols if symbol is not None)
        return Merges(start, tuple(fired), ids)

    def _symbols(self, word: str) -> Iterator[str]:
        """One symbol a character; an unknown one becomes its bytes, or <unk>, or (without either)
        nothing."""
        pending = False  # an <unk> that the next unknown character may join
        for at, character in enumerate(word):
            symbol = (
                (self.prefix if at else "")
                + character
                + (self.suffix if at == len(word) - 1 else "")
            )
            if symbol in self.vocab:
                if pending and self.unk is not None:
                    yield self.unk
                pending = False
                yield symbol
                continue
            if self.byte_fallback:
                spelled = [f"<0x{byte:02X}>" for byte in symbol.encode()]
                if all(byte in self.vocab for byte in spelled):
                    yield from spelled
                    continue
            if self.unk is not None:
                if pending and not self.fuse_unk:
                    yield self.unk
                pending = True
        if pending and self.unk is not None:
            yield self.unk


class WordPieces:
    """Longest match first with a given vocabulary."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.vocab: Vocabulary = model["vocab"]
        self.prefix: str = model["continuing_subword_prefix"]
        self.unk: str = model["unk_token"]
        self.longest: int = model["max_input_chars_per_word"]

    def __call__(self, word: str) -> LongestMatch:
        if len(word) > self.longest:
            return LongestMatch((), (self.vocab[self.unk],), unknown=True)
        tries, ids, start = [], [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = (self.prefix if start else "") + word[start:end]
                tries.append(Try(start, piece, piece in self.vocab))
                if piece in self.vocab:
                    ids.append(self.vocab[piece])
                    start = end
                    break
            else:
                return LongestMatch(tuple(tries), (self.vocab[self.unk],), unknown=True)
        return LongestMatch(tuple(tries), tuple(ids), unknown=False)


UNKNOWN_PENALTY = 10.0  # an unknown character counts as this much less than the rarest piece


class Unigrams:
    """The best cut by the pieces' log-probabilities."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.scores = {piece: (score, id) for id, (piece, score) in enumerate(model["vocab"])}
        self.unk: int | None = model["unk_id"]
        self.byte_fallback: bool = model.get("byte_fallback", False)
        self.longest = max(map(len, self.scores), default=1)
        self.unk_score = min((score for _, score in model["vocab"]), default=0.0) - UNKNOWN_PENALTY

    def __call__(self, word: str) -> Lattice:
        edges = list(self._edges(word))
        best, runner_up = _two_best(edges, len(word))
        found = list(self._tokens(best))
        tokens, ids = (token for token, _ in found), (id for _, id in found)
        return Lattice(tuple(edges), best, runner_up, tuple(tokens), tuple(ids))

    def _edges(self, word: str) -> Iterator[Edge]:
        for start in range(len(word)):
            single = False
            for end in range(start + 1, min(start + self.longest, len(word)) + 1):
                piece = word[start:end]
                if piece in self.scores:
                    score, id = self.scores[piece]
                    single = single or end == start + 1
                    yield Edge(start, end, piece, score, id)
            if not single and self.unk is not None:
                yield Edge(start, start + 1, word[start], self.unk_score, self.unk)

    def _tokens(self, path: Path) -> Iterator[tuple[str, int]]:
        """Pieces and ids along the path; neighbouring unknown characters are one, spelled in bytes
        where the vocabulary has them.
        """
        unknown = ""
        for edge in path.edges:
            if edge.id == self.unk:
                unknown += edge.piece
                continue
            yield from self._unknown(unknown)
            unknown = ""
            yield edge.piece, edge.id
        yield from self._unknown(unknown)

    def _unknown(self, text: str) -> Iterator[tuple[str, int]]:
        if not text or self.unk is None:
            return
        spelled = [f"<0x{byte:02X}>" for byte in text.encode()]
        if text in self.scores:
            yield text, self.scores[text][1]
        elif self.byte_fallback and all(byte in self.scores for byte in spelled):
            yield from ((byte, self.scores[byte][1]) for byte in spelled)
        else:
            yield text, self.unk


def _two_best(edges: list[Edge], length: int) -> tuple[Path, Path | None]:
    """The best and the second-best path from 0 to `length`; of equals the one whose last edge
    starts earlier wins."""
    Arrival = tuple[
        float, Edge | None, int
    ]  # score, last edge, which of the arrivals at its start it continues
    arrivals: list[list[Arrival]] = [[] for _ in range(length + 1)]
    arrivals[0] = [(0.0, None, 0)]
    for edge in edges:  # by start, so that arrivals[edge.start] is complete
        for rank, (score, _, _) in enumerate(arrivals[edge.start]):
            here = arrivals[edge.end]
            here.append((score + edge.score, edge, rank))
            here.sort(key=lambda arrival: -arrival[0])  # stable: an earlier equal stays first
            del here[2:]

    def path(rank: int) -> Path:
        total = arrivals[length][rank][0]
        taken, end = [], length
        while end > 0:
            _, edge, rank = arrivals[end][rank]
            assert edge is not None
            taken.append(edge)
            end = edge.start
        return Path(tuple(reversed(taken)), total)

    return path(0), path(1) if len(arrivals[length]) > 1 else None


class Entries:
    """The whole pre-token is one entry, or unknown."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.vocab: Vocabulary = model["vocab"]
        self.unk: str = model["unk_token"]

    def __call__(self, word: str) -> Lookup:
        return Lookup((self.vocab[word if word in self.vocab else self.unk],))


ALGORITHMS: dict[str, Callable[[Mapping[str, Any]], Callable[[str], Steps]]] = {
    "BPE": BytePairs,
    "WordPiece": WordPieces,
    "Unigram": Unigrams,
    "WordLevel": Entries,
}
