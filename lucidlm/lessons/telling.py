"""Lessons run: `tell("attention-by-hand", "zh")` computes values and binds them to the prose."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lucidlm.checkpoint.catalogue import find, is_pulled
from lucidlm.errors import LucidError, MissingExtra, UnknownName
from lucidlm.lessons.kinds import Block, Figure, Figures, Inline, Value, inline, plain
from lucidlm.lessons.page import EXPRESSION, Beat, Kind, Style, spans, whole
from lucidlm.lessons.shelf import module, page
from lucidlm.locale import text

FIELD = re.compile(r"\{([a-z][a-z0-9_]*)(?::([^{}]+))?\}")

Values = Mapping[str, Value]


@dataclass(frozen=True)
class Words:
    """A lesson's terms in the language it is told in."""

    lang: str
    terms: Mapping[str, str]

    def __call__(self, key: str, /, **values: Inline) -> str:
        """The term `key`, its fields `{name}` or `{name:.3f}` filled in."""
        comma = text("lessons.comma", self.lang)
        return FIELD.sub(
            lambda found: inline(values[found[1]], found[2] or "", comma), self.terms[key]
        )


@dataclass(frozen=True)
class Needs:
    """Values of one beat that a pulled model makes: the first of `models` that is here, by name.
    Without any, what they need is PyTorch.
    """

    models: tuple[str, ...]
    values: Callable[[Words, str], Values]


@dataclass(frozen=True)
class Runs:
    """What can be trained again while one waits: `again(say, name, progress)` for one of `names`
    tells `progress` how far it is, and returns what came of it. Needs PyTorch.
    """

    names: tuple[str, ...]
    again: Callable[[Words, str, Callable[[str], None]], Mapping[str, Block]]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What `lesson.py` says: what is computed, the article's own figures (names in the prose:
    `article.NAME`), by beat what needs a model, and what can be run.
    """

    values: Callable[[Words], Values]
    article: Mapping[str, Inline] = field(default_factory=dict)
    needs: Mapping[str, Needs] = field(default_factory=dict)
    runs: Runs | None = None


@dataclass(frozen=True)
class Passage:
    """A part of a beat with its numbers filled in: styled text, or a block."""

    kind: Kind
    spans: tuple[tuple[str, Style], ...] = ()
    block: Block | None = None

    @property
    def markdown(self) -> str:
        if self.block is not None:
            return self.block.markdown()
        marks = {"": "", "strong": "**", "code": "`"}
        body = "".join(f"{marks[style]}{words}{marks[style]}" for words, style in self.spans)
        return {"item": f"- {body}", "code": f"```\n{body}\n```"}.get(self.kind, body)


@dataclass(frozen=True)
class ToldBeat:
    """One beat as it is told. `needs` is the sentence that stands in for what could not run."""

    id: str
    heading: str
    passages: tuple[Passage, ...]
    values: Values
    needs: str | None = None

    @property
    def text(self) -> str:
        """All of it as Markdown."""
        return self.needs or "\n\n".join(passage.markdown for passage in self.passages)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "heading": self.heading,
            "text": self.text,
            "values": {name: plain(value) for name, value in self.values.items()},
            "needs": self.needs,
        }


@dataclass(frozen=True)
class Told:
    """A lesson run in one language."""

    name: str
    title: str
    beats: tuple[ToldBeat, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Everything that was compared with the article, in order."""
        values = (value for beat in self.beats for value in beat.values.values())
        return tuple(row for value in values if isinstance(value, Figures) for row in value.rows)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "beats": [beat.to_json() for beat in self.beats],
            "figures": [plain(figure) for figure in self.figures],
        }


def lesson(name: str) -> Lesson:
    """What the lesson called `name` computes."""
    found: Lesson = importlib.import_module(f"{module(name)}.lesson").LESSON
    return found


def tell(name: str, lang: str) -> Told:
    """Run a lesson in `lang` ("en" or "zh")."""
    what, prose = lesson(name), page(name, lang)
    say = Words(lang, prose.terms)
    values: dict[str, Value] = {f"article.{key}": each for key, each in what.article.items()}
    values |= what.values(say)
    beats, comma = [], text("lessons.comma", lang)
    for beat in prose.beats:
        needs = what.needs.get(beat.id)
        more, missing = ({}, None) if needs is None else _from_model(needs, say)
        if missing is not None:
            beats.append(ToldBeat(beat.id, beat.heading, (), {}, missing))
        else:
            beats.append(_told(beat, _headed(values | more, lang), comma))
    return Told(name, prose.title, tuple(beats))


def rerun(name: str, run: str, lang: str, progress: Callable[[str], None]) -> Told:
    """Train what the lesson calls `run` again, and tell what came of it.

    Raises LucidError where the lesson has nothing to run, UnknownName for a run that it does not
    have, MissingExtra without PyTorch.
    """
    runs, prose = lesson(name).runs, page(name, lang)
    if runs is None:
        raise LucidError("lessons.nothing_to_run", name=name)
    if run not in runs.names:
        raise UnknownName("lessons.no_such_run", run, runs.names, names=", ".join(runs.names))
    found = runs.again(Words(lang, prose.terms), run, progress)
    passages = tuple(Passage("block", block=block) for block in found.values())
    return Told(name, prose.title, (ToldBeat(run, run, passages, found),))


def figure(
    say: Words, key: str, article: Inline, true: Inline, spec: str = ".4g", **fields: Inline
) -> Figure:
    """A comparison whose words are the term `key`: "what it is | why they differ"."""
    label, _, reason = say(key, **fields).partition(" | ")
    assert reason, f"the term {key!r} has no reason behind ' | '"
    return Figure(label, article, true, reason, spec)


def _from_model(needs: Needs, say: Words) -> tuple[dict[str, Value], str | None]:
    """What the model makes, or the sentence that says how to get it."""
    here = next((model for model in needs.models if is_pulled(find(model))), None)
    if needs.models and here is None:
        return {}, text("lessons.needs_model", say.lang, name=needs.models[0])
    try:
        return dict(needs.values(say, here or "")), None
    except MissingExtra as error:
        return {}, text("lessons.needs_extra", say.lang, extra=error.values["extra"])


def _told(beat: Beat, values: Values, comma: str) -> ToldBeat:
    def fill(source: str) -> str:
        """`source` with what its expressions name."""
        return EXPRESSION.sub(
            lambda found: _inline(values[found[1]], found[2] or "", comma), source
        )

    passages = []
    for part in beat.parts:
        alone = EXPRESSION.fullmatch(part.source)
        if alone and isinstance(value := values[alone[1]], Block):
            passages.append(Passage("block", block=value))
            continue
        cut = [whole(part.source)] if part.kind == "code" else spans(part.source)
        filled = tuple((fill(words), style) for words, style in cut)
        passages.append(Passage("paragraph" if part.kind == "block" else part.kind, filled))
    used = {name: values[name] for name in sorted({name for name, _ in beat.expressions})}
    return ToldBeat(beat.id, fill(beat.heading), tuple(passages), used)


def _inline(value: Value, spec: str, comma: str) -> str:
    assert not isinstance(value, Block), "a block stands in a paragraph of its own"
    return inline(value, spec, comma)


def _headed(values: Values, lang: str) -> Values:
    """Comparisons with the words above their columns."""
    heads = tuple(text(f"lessons.head_{name}", lang) for name in ("what", "article", "true", "why"))
    return {
        name: replace(value, heads=heads) if isinstance(value, Figures) else value
        for name, value in values.items()
    }
