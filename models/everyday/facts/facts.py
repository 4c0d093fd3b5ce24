"""Facts as questions with one answer, in many wordings, and as plain sentences.

`facts.tsv` has a fact a row: its relation, what it is about and what is to be said, in both
languages. `wordings.tsv` has the ways to ask for each relation; those that are held out are never
learnt from, with any subject, and show whether a model answers what it was never asked so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Lang = Literal["zh", "en"]
FOLDER = Path(__file__).parent
# Wordings with parts of their own: 最高,山峰,座 fills {a}, {n} and {m}.
PARTS = {"extreme": "anm", "inchina": "anm", "insky": "anm", "first": "an", "number": "sm"}
# As plain sentences, where the relation makes good ones.
STATEMENTS = {
    "capital": ("{s}的首都是{o}。", "The capital of {s} is {o}."),
    "continent": ("{s}在{o}。", "{s} is in {o}."),
    "language": ("{s}人说{o}。", "People in {s} speak {o}."),
    "currency": ("{s}的货币是{o}。", "The currency of {s} is {o}."),
    "author": ("{s}是{o}写的。", "{s} was written by {o}."),
    "eats": ("{s}吃{o}。", "{s} eat {o}."),
    "opposite": ("{s}的反义词是{o}。", "The opposite of {s} is {o}."),
    "color": ("{s}的颜色是{o}。", "The color of {s} is {o}."),
    "province": ("{s}的省会是{o}。", "The capital of {s} Province is {o}."),
    "place": ("{s}在{o}。", "{s} is in {o}."),
    "extreme": ("世界上{a}的{n}是{o}。", "The {s} in the world is {o}."),
    "inchina": ("中国{a}的{n}是{o}。", "The {s} in China is {o}."),
    "insky": ("太阳系里{a}的{n}是{o}。", "The {s} in the solar system is {o}."),
    "first": ("第一个{a}的{n}是{o}。", "{o} was {s}."),
}


@dataclass(frozen=True)
class Fact:
    """What is known: `subject` and `answer` by language."""

    relation: str
    subject: tuple[str, str]  # zh, en
    answer: tuple[str, str]


@dataclass(frozen=True)
class Question:
    """A fact asked in one wording, and the one answer that counts."""

    relation: str
    lang: Lang
    question: str
    answer: str
    wording: int  # its row in wordings.tsv


@cache
def facts() -> tuple[Fact, ...]:
    """Every fact, in the table's order."""
    return tuple(
        Fact(relation, (subject_zh, subject_en), (answer_zh, answer_en))
        for relation, subject_zh, subject_en, answer_zh, answer_en in _rows("facts")
    )


def questions(held_out: bool) -> Iterator[Question]:
    """Every fact in every wording of its relation, of those that are held out or of the others."""
    for number, (relation, lang, aside, wording) in enumerate(_rows("wordings"), 1):
        if (aside == "yes") is not held_out:
            continue
        at = 0 if lang == "zh" else 1
        for fact in facts():
            if fact.relation == relation:
                text = _filled(wording, fact, at)
                answer = fact.answer[at] + "。" if at == 0 else _sentence(fact.answer[at])
                yield Question(relation, "zh" if at == 0 else "en", text, answer, number)


def statements() -> Iterator[tuple[str, str]]:
    """Facts as pairs of plain sentences, Chinese and English."""
    for fact in facts():
        if fact.relation in STATEMENTS:
            chinese, english = STATEMENTS[fact.relation]
            yield _filled(chinese, fact, 0), _capital(_filled(english, fact, 1))


def _filled(wording: str, fact: Fact, at: int) -> str:
    """`wording` with the fact's subject, or with the parts of it, and with its answer."""
    parts = {"s": fact.subject[at], "o": fact.answer[at]}
    if at == 0 and fact.relation in PARTS:
        names = PARTS[fact.relation]
        parts |= dict(zip(names, fact.subject[0].split(","), strict=False))
    if ", {s}" in wording:  # in the middle of a sentence
        parts["s"] = parts["s"][:1].lower() + parts["s"][1:]
    text = wording.format(**parts)
    return _capital(text) if at == 1 and wording.startswith("{s}") else text


def _sentence(answer: str) -> str:
    return _capital(answer) + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@cache
def _rows(name: str) -> tuple[list[str], ...]:
    lines = (FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    return tuple(line.split("\t") for line in lines[1:])
