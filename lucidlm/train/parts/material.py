"""What the runs read: lines of characters, and sentence pairs, as batches. No PyTorch here."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from lucidlm.classical.words import Words
from lucidlm.train.batch import NO_LOSS, PADDING, Batch, Ints
from lucidlm.train.parts.settings import Settings

TURN = "⇒"  # between a sentence and its translation, where one stream holds both
PIECES = re.compile(r"[a-z0-9']+|[^\sa-z0-9']")

Pair = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Text:
    """A stream of lines, each closed by </s>; the last lines are held out."""

    words: Words
    train: Ints
    held_out: Ints
    settings: Settings

    @classmethod
    def of(cls, text: str, settings: Settings) -> Text:
        lines = text.splitlines()
        cut = round(len(lines) * (1 - settings.held_out))
        words = Words.learn("\n".join(lines[:cut]), "character", max_words=settings.words)
        train, held_out = (
            np.array([id for ids in words.encode_lines("\n".join(part)) for id in ids])
            for part in (lines[:cut], lines[cut:])
        )
        return cls(words, train, held_out, settings)

    def batch(self, seed: int, step: int) -> Batch:
        random = np.random.default_rng((seed, step))
        length = self.settings.context
        starts = random.integers(0, len(self.train) - length, self.settings.batch)
        return _rows(np.stack([self.train[at : at + length + 1] for at in starts]))

    def asked(self) -> Batch:
        length = self.settings.context
        starts = range(0, len(self.held_out) - length, length)
        return _rows(np.stack([self.held_out[at : at + length + 1] for at in starts]))

    def line(self, text: str) -> list[int]:
        """The ids of a line that begins with `text`, behind the end of another."""
        assert self.words.end is not None
        return [self.words.end, *self.words.encode(text)]


@dataclass(frozen=True)
class Pairs:
    """Sentences with their translations; the last ones are held out. With `joined` a sentence and
    its translation are one row, else the sentence is the source.
    """

    words: Words
    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    joined: bool
    settings: Settings

    @classmethod
    def of(cls, table: str, settings: Settings, *, joined: bool) -> Pairs:
        rows = [tuple(map(pieces, line.split("\t"))) for line in table.splitlines()]
        cut = round(len(rows) * (1 - settings.held_out))
        known = [f"{source} {TURN} {target}" for source, target in rows[:cut]]
        words = Words.learn("\n".join(known))
        assert words.end is not None
        pairs = tuple((words.encode(s), [*words.encode(t), words.end]) for s, t in rows)
        return cls(words, pairs[:cut], pairs[cut:], joined, settings)

    def batch(self, seed: int, step: int) -> Batch:
        random = np.random.default_rng((seed, step))
        chosen = random.integers(0, len(self.train), self.settings.pair_batch)
        return self._rows([self.train[at] for at in chosen])

    def asked(self) -> Batch:
        return self._rows(self.held_out)

    def opening(self, source: list[int]) -> list[int]:
        """What stands before a translation in its row."""
        turn = self.words.encode(TURN)
        return [*source, *turn] if self.joined else turn

    def sentence(self, text: str) -> list[int]:
        """The ids of a sentence to translate."""
        return self.words.encode(pieces(text))

    def _rows(self, pairs: list[Pair] | tuple[Pair, ...]) -> Batch:
        before = [self.opening(source) for source, _ in pairs]
        whole = [opening + target for opening, (_, target) in zip(before, pairs, strict=True)]
        learnt = [
            [NO_LOSS] * (len(opening) - 1) + target
            for opening, (_, target) in zip(before, pairs, strict=True)
        ]
        # a row's end is padding, which nothing real sees: it stands behind, and the mask is causal
        ids, targets = _padded([row[:-1] for row in whole], 0), _padded(learnt, NO_LOSS)
        places = _places(ids)
        batch = Batch(ids=ids, targets=targets, positions=places, documents=np.zeros_like(ids))
        if self.joined:
            return batch
        source = _padded([source for source, _ in pairs], PADDING)
        return Batch(
            ids=ids,
            targets=targets,
            positions=places,
            documents=batch.documents,
            source=np.maximum(source, 0),
            source_positions=_places(source),
            source_documents=np.where(source == PADDING, PADDING, 0),
        )


def pieces(text: str) -> str:
    """A sentence with spaces between its words: a Chinese character is one, English in small
    letters.
    """
    return " ".join(PIECES.findall(text.lower()))


def written(words: Words, ids: list[int]) -> str:
    """The text of some ids up to the end of the line."""
    return words.decode(ids[: ids.index(words.end)] if words.end in ids else ids)


def read(batch: Batch) -> int:
    """Tokens of a batch that are no padding, sources included."""
    behind = (batch.targets[:, ::-1] != NO_LOSS).argmax(1)  # places behind a row's last target
    here = batch.targets.size - int(behind.sum())
    sources = batch.source_documents
    return here + (0 if sources is None else int((sources != PADDING).sum()))


def _rows(tokens: Ints) -> Batch:
    """(B, T + 1) tokens: each is the target of the place before it."""
    ids = tokens[:, :-1]
    places = _places(ids)
    return Batch(ids=ids, targets=tokens[:, 1:], positions=places, documents=np.zeros_like(ids))


def _places(ids: Ints) -> Ints:
    """0, 1, 2 ... in every row."""
    return np.tile(np.arange(ids.shape[1]), (len(ids), 1))


def _padded(rows: list[list[int]], filler: int) -> Ints:
    width = max(map(len, rows))
    return np.array([row + [filler] * (width - len(row)) for row in rows])
