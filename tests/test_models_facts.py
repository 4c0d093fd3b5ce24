"""The facts: well formed in both languages, one answer each, and wordings that stay unseen."""

from __future__ import annotations

import re
from collections import defaultdict

from models.data.holdout import allowed_pair, allowed_text
from models.everyday.facts.facts import facts, questions, statements

TRAIN, ASIDE = list(questions(held_out=False)), list(questions(held_out=True))


def plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def test_there_are_a_few_hundred_facts_in_many_wordings() -> None:
    assert len(facts()) > 400
    wordings = defaultdict(set)
    for one in TRAIN:
        wordings[one.relation, one.lang].add(one.wording)
    assert min(map(len, wordings.values())) >= 5
    assert {lang for _, lang in wordings} == {"zh", "en"}
    assert {relation for relation, _ in wordings} == {fact.relation for fact in facts()}


def test_held_out_wordings_are_never_learnt() -> None:
    known = {plain(one.question) for one in TRAIN}
    assert not [one.question for one in ASIDE if plain(one.question) in known]
    for relation in {fact.relation for fact in facts()}:
        for lang in ("zh", "en"):
            aside = {q.wording for q in ASIDE if (q.relation, q.lang) == (relation, lang)}
            assert len(aside) == 2


def test_the_highest_mountain_is_asked_as_it_was_never_seen() -> None:
    asked = {plain("世界上最高的山峰是哪座")}
    assert asked & {plain(one.question) for one in ASIDE}
    assert not asked & {plain(one.question) for one in TRAIN}


def test_a_question_has_one_answer() -> None:
    found = defaultdict(set)
    for one in [*TRAIN, *ASIDE]:
        assert one.question == one.question.strip() and "{" not in one.question
        assert one.answer.endswith("。" if one.lang == "zh" else ".")
        found[plain(one.question)].add(one.answer)
    assert not [q for q, answers in found.items() if len(answers) > 1]


def test_both_languages_know_the_same() -> None:
    for fact in facts():
        assert all(fact.subject) and all(fact.answer)
        assert re.search(r"[\u4e00-\u9fff]", fact.answer[0])
        assert not re.search(r"[\u4e00-\u9fff]", fact.subject[1] + fact.answer[1])


def test_nothing_that_is_held_out_is_said() -> None:
    assert all(allowed_pair(*pair) for pair in statements())
    assert all(allowed_text(one.question + one.answer) for one in TRAIN)
