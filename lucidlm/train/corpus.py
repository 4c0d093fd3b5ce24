"""The data of a run: read, checked, tokenised once, kept, and set apart into what is learnt from
and what is held out.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from lucidlm.errors import TrainError
from lucidlm.home import home
from lucidlm.locale import text
from lucidlm.text.folder import load_tokenizer, save_tokenizer
from lucidlm.text.template import ChatTemplate, PlainFrame
from lucidlm.text.template import load as load_template
from lucidlm.text.tokenizer import Tokenizer
from lucidlm.train.batches import Batches, Marks, ahead
from lucidlm.train.recipe import Recipe, Source
from lucidlm.train.rendering import Document, Renderer
from lucidlm.train.rows import PairRow, Row, digests
from lucidlm.train.sources import files_of, hash_files, rows_of
from lucidlm.train.store import open_store, publish, unfinished_beside, write_store
from lucidlm.train.vocabulary import MOST_TEXT, learnt, loaded

__all__ = ["Corpus", "Report", "ahead", "open_corpus"]

VERSION = 1  # of the cache: another one is made anew
REPORT, TOKENIZER = "report.json", "tokenizer"
EVERY = 2000  # rows between two signs of progress
Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found in the data, in rows; tokens as they were counted."""

    rows: tuple[int, ...]  # by source, those that are learnt from
    held_out: int
    duplicates: int  # dropped: the same as an earlier row
    leaks: int  # dropped: the same as a held-out row, or as a side of one
    tokens: int  # of all rows that are learnt from, sources included
    held_out_tokens: int
    cut: int  # rows longer than a line: cut, or of pairs left out
    vocab_size: int
    learnt_from: int  # characters that the vocabulary was learnt from; 0 where it was there

    def sentences(self, lang: str = "en") -> list[str]:
        """The same in words."""
        lines = [
            text(
                "dataset.report_rows",
                lang,
                rows=f"{sum(self.rows):,}",
                tokens=f"{self.tokens:,}",
                held_out=f"{self.held_out:,}",
            )
        ]
        for name in ("duplicates", "leaks", "cut"):
            if count := getattr(self, name):
                lines.append(text(f"dataset.report_{name}", lang, count=f"{count:,}"))
        return lines


@dataclass(frozen=True, eq=False)
class Corpus:
    """Batches to learn from and to be measured on, and what was found in the data."""

    tokenizer: Tokenizer
    train: Batches
    held_out: Batches | None
    report: Report
    fingerprint: str


def open_corpus(
    recipe: Recipe,
    base: Path,
    *,
    tokenizer: Tokenizer | None = None,
    template: ChatTemplate | PlainFrame | None = None,
    max_positions: int | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """The recipe's data; paths begin at `base`. `tokenizer` and `template` are those of a model
    that is trained further. Kept under `home()/corpora`, by what it was made of.

    Raises TrainError for what cannot be learnt from, naming the file and the line.
    """
    assert max_positions is None or recipe.context <= max_positions
    told = recipe.tokenizer
    if tokenizer is None and told is not None and told.load is not None:
        tokenizer = loaded(told.load, base)
    fingerprint = _fingerprint(recipe, base, tokenizer)
    folder = home() / "corpora" / fingerprint
    found = _kept(folder)
    if found is None:
        _Making(recipe, base, tokenizer, template, progress or _silent).into(folder)
        found = _kept(folder)
        assert found is not None, folder
    report, own = found
    tokenizer = tokenizer or own
    assert tokenizer is not None, folder
    train, held_out = open_store(folder / "train"), open_store(folder / "held_out")
    marks = Marks(
        start=tokenizer.specials.pad,
        mask=tokenizer.specials.mask,
        special=tokenizer.special_ids,
        vocab_size=tokenizer.vocab_size,
    )
    _check_marks(recipe, marks)
    edges = [0]
    for rows in report.rows:
        edges.append(edges[-1] + rows)
    ranges = list(pairwise(edges))
    repeats = [source.repeat for source in recipe.data.train]
    whole = [(0, held_out.documents)]
    return Corpus(
        tokenizer=tokenizer,
        train=Batches(train, recipe, ranges, repeats, marks),
        held_out=Batches(held_out, recipe, whole, [1.0], marks, once=True)
        if held_out.documents
        else None,
        report=report,
        fingerprint=fingerprint,
    )


@dataclass
class _Making:
    """One pass over the rows for a vocabulary, where one is to be learnt, and one for the ids."""

    recipe: Recipe
    base: Path
    tokenizer: Tokenizer | None
    template: ChatTemplate | PlainFrame | None
    progress: Progress
    kept: set[int] = field(default_factory=set)  # digests of held-out rows and of their sides
    seen: set[int] = field(default_factory=set)  # digests of rows that are learnt from
    rows: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("duplicates", "leaks", "cut"), 0)
    )

    def into(self, folder: Path) -> None:
        """Write everything beside `folder`, and put it there in one move."""
        unfinished = unfinished_beside(folder)
        try:
            learnt_from = 0
            if self.tokenizer is None:
                texts = _Sampled(self)
                self.tokenizer = learnt(self.recipe, texts, self.base)
                learnt_from = texts.characters
                save_tokenizer(self.tokenizer, unfinished / TOKENIZER)
            template = self.template or load_template(self.tokenizer)
            render = Renderer(self.recipe, self.tokenizer, template)
            size = self.tokenizer.vocab_size
            self._note_held_out()
            held_out = write_store(unfinished / "held_out", self._held_out(render), size)
            write_store(unfinished / "train", self._train(render), size)
            if not sum(self.rows):
                raise TrainError("dataset.nothing_left")
            report = Report(
                rows=tuple(self.rows),
                held_out=held_out,
                tokens=open_store(unfinished / "train").tokens,
                held_out_tokens=open_store(unfinished / "held_out").tokens,
                vocab_size=size,
                learnt_from=learnt_from,
                **self.counts,
            )
            (unfinished / REPORT).write_text(json.dumps(asdict(report)), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one
            publish(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _note_held_out(self) -> None:
        """Know every held-out row before the first that is learnt from."""
        for row, _ in self._set_aside():
            self.kept.update(digests(row))

    def _set_aside(self) -> Iterator[tuple[Row, str]]:
        data = self.recipe.data
        if data.held_out:
            for source in data.held_out:
                yield from rows_of(source, self.base)
        elif data.held_out_share:
            known: set[int] = set()
            for source in data.train:
                for row, place in rows_of(source, self.base):
                    digest = next(digests(row))
                    if self._is_aside(digest) and digest not in known:
                        known.add(digest)
                        yield row, place

    def _is_aside(self, digest: int) -> bool:
        """Whether a row of this digest belongs to the share that is held out."""
        data = self.recipe.data
        return not data.held_out and digest < data.held_out_share * 2**64

    def _held_out(self, render: Renderer) -> Iterator[Document]:
        for row, place in self._set_aside():
            yield self._whole(render(row, place))

    def _train(self, render: Renderer) -> Iterator[Document]:
        for number, source in enumerate(self.recipe.data.train):
            self.rows.append(0)
            share = number / len(self.recipe.data.train)
            for count, (row, place) in enumerate(rows_of(source, self.base)):
                if count % EVERY == 0:
                    self.progress("tokenise", share)
                self._refuse_forbidden(row, place)
                if self._is_new(row):
                    self.rows[-1] += 1
                    yield self._whole(render(row, place))
        self.progress("tokenise", 1.0)

    def _is_new(self, row: Row) -> bool:
        """Whether a row is to be learnt from: neither held out nor known already."""
        whole, *sides = digests(row)
        if self._is_aside(whole):
            return False
        if whole in self.kept or (isinstance(row, PairRow) and not self.kept.isdisjoint(sides)):
            self.counts["leaks"] += 1
            return False
        if whole in self.seen:
            self.counts["duplicates"] += 1
            return False
        self.seen.add(whole)
        return True

    def _refuse_forbidden(self, row: Row, place: str) -> None:
        for words in self.recipe.data.forbid:
            if any(words in side for side in row.texts):
                raise TrainError("dataset.forbidden", place=place, words=words)

    def _whole(self, document: Document) -> Document:
        """The document, counted where a line cannot hold it. A translation gets its end tokens."""
        width = self.recipe.context
        if max(len(document.ids), len(document.source)) > width + 1:
            self.counts["cut"] += 1
        return document


class _Sampled:
    """The texts that a vocabulary is learnt from: all of them, or of a large corpus every so many
    rows, up to `MOST_TEXT` characters.
    """

    def __init__(self, making: _Making) -> None:
        self.making = making
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        making = self.making
        sources = making.recipe.data.train
        sizes = [_size(source, making.base) for source in sources]
        step = max(1, -(-sum(sizes) // MOST_TEXT))
        for number, source in enumerate(sources):
            making.progress("vocabulary", number / len(sources))
            for count, (row, _) in enumerate(rows_of(source, making.base)):
                if count % step == 0 and not making._is_aside(next(digests(row))):
                    for side in row.texts:
                        self.characters += len(side)
                        yield side


def _size(source: Source, base: Path) -> int:
    return sum(path.stat().st_size for path in files_of(source, base))


def _fingerprint(recipe: Recipe, base: Path, tokenizer: Tokenizer | None) -> str:
    """What the ids depend on: the rows, the keys that say how they are read, and the tokenizer."""
    data = recipe.data
    told = recipe.tokenizer
    template = None if told is None or told.chat_template is None else base / told.chat_template
    known = {
        "version": VERSION,
        "objective": recipe.objective,
        "context": recipe.context,
        "pair": data.pair,
        "loss_on": data.loss_on,
        "share": data.held_out_share,
        "forbid": data.forbid,
        "rows": [[source.text, source.lines] for source in (*data.train, *data.held_out)],
        "held_out": len(data.held_out),
        "files": [hash_files(files_of(source, base)) for source in (*data.train, *data.held_out)],
        "tokenizer": None if told is None or tokenizer is not None else asdict(told),
        "template": hash_files([template]) if template is not None and template.is_file() else None,
        "backend": None if tokenizer is None else _identity(tokenizer),
    }
    whole = json.dumps(known, sort_keys=True, ensure_ascii=False).encode()
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def _identity(tokenizer: Tokenizer) -> str:
    told = f"{tokenizer.backend.to_str()}|{tokenizer.chat_template}|{tokenizer.specials}"
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def _kept(folder: Path) -> tuple[Report, Tokenizer | None] | None:
    """What a finished folder says; None where there is none, or a damaged one."""
    try:
        said = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        open_store(folder / "train")
        open_store(folder / "held_out")
        report = Report(**(said | {"rows": tuple(said["rows"])}))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    there = folder / TOKENIZER
    return report, load_tokenizer(there) if there.is_dir() else None


def _check_marks(recipe: Recipe, marks: Marks) -> None:
    if recipe.objective == "translate" and marks.start is None:
        raise TrainError("dataset.no_start")
    if recipe.objective == "mask" and marks.mask is None:
        raise TrainError("dataset.no_mask")


def _silent(stage: str, share: float) -> None:
    """Progress that nobody looks at."""
