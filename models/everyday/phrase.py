"""A phrase in both languages at once, and the templates that join phrases."""

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from models.everyday.english import verb_forms
from models.everyday.lexicon import weighted

_NAME = r"[a-z_]+(?:\.[a-z_0-9]+)?[A-Z]?"
_SLOT = re.compile(rf"\{{({_NAME})(?::([a-z_]+))?(?:@({_NAME}))?\}}")
_TRIES = 200


class Phrase(NamedTuple):
    """A phrase's forms in both languages; what does not inflect follows as a tail of each side.

    `forms` has "zh" and "en" and, by kind, more: zh "le" and "guo" of verbs with 了 and 过;
    "s", "past", "ing", "pp" of English verbs; "obj", "poss", "be", "agr" ... of noun
    phrases. `root` is who or what it is about: a template never has the same root in two
    slots ("I help me").
    """

    forms: Mapping[str, str]
    zh: str = ""
    en: str = ""
    root: str = ""

    def form(self, name: str) -> str:
        """A Chinese form by names "zh", "le", "guo" and those that begin with "z", else an
        English one."""
        return self.forms[name] + (self.zh if name in _CHINESE else self.en)


_CHINESE = frozenset(("zh", "le", "guo", "anota", "negated", "zasked", "zposs", "zpro"))

Make = Callable[[Random], Phrase]
"""Draws a phrase of a kind."""


class Template(NamedTuple):
    """A compiled row of a templates' table: literal text with %s where a slot's form goes."""

    zh: str
    en: str
    slots: tuple[Make, ...]
    zh_parts: tuple[tuple[int, str], ...]
    en_parts: tuple[tuple[int, str, int], ...]  # slot, form, slot that decides the form or -1

    def draw(self, random: Random) -> tuple[str, str, str]:
        """The Chinese side, the English side without a capital, and the first slot's root."""
        for _ in range(_TRIES):
            values = [make(random) for make in self.slots]
            roots = [value.root for value in values if value.root]
            if len(roots) < 2 or len(set(roots)) == len(roots):
                break
        else:
            raise AssertionError(f"no distinct phrases for {self.zh!r}")
        zh = self.zh % tuple([values[slot].form(form) for slot, form in self.zh_parts])
        en = self.en % tuple(
            [
                values[slot].form(form if by < 0 else values[by].forms[form])
                for slot, form, by in self.en_parts
            ]
        )
        return zh, en, roots[0] if roots else ""


def compile_template(zh: str, en: str, kind: Callable[[str], Make]) -> Template:
    """A template from its two sides, e.g. `{who}每天{do}。` and `{who} {do@who} every day.`

    A slot is a kind with an optional capital letter that tells two of the same kind
    apart; the Chinese side introduces all of them, the English side names each at least
    once. `{x:form}` takes another form than the plain one, and `{verb@who}` the form that
    agrees with the subject who; an English verb that is no slot can stand there too, as
    `{want@who}`.
    """
    order: list[str] = []  # of the slots, then of the English verbs
    for match in _SLOT.finditer(zh):
        if match[1] not in order:
            order.append(match[1])
    verbs = {m[1] for m in _SLOT.finditer(en) if m[3] and m[1] not in order}
    if {m[1] for m in _SLOT.finditer(en)} - verbs != set(order):
        raise ValueError(f"slots differ: {zh} | {en}")
    makers = [kind(name[:-1] if name[-1].isupper() else name) for name in order]
    order += sorted(verbs)
    makers += [from_list([(Phrase(verb_forms(verb)), 1)]) for verb in order[len(makers) :]]
    zh_parts = tuple((order.index(m[1]), m[2] or "zh") for m in _SLOT.finditer(zh))
    en_parts = tuple(
        (order.index(m[1]), "agr", order.index(m[3]))
        if m[3]
        else (order.index(m[1]), m[2] or "en", -1)
        for m in _SLOT.finditer(en)
    )
    if "{" in _SLOT.sub("", zh + en):
        raise ValueError(f"a slot that cannot be read: {zh} | {en}")
    return Template(_SLOT.sub("%s", zh), _SLOT.sub("%s", en), tuple(makers), zh_parts, en_parts)


def from_list(phrases: Sequence[tuple[Phrase, int]]) -> Make:
    """Draws from weighted phrases."""
    items = weighted(phrases)
    size = len(items)
    assert size, "an empty kind"

    def draw(random: Random) -> Phrase:
        return items[int(random.random() * size)]

    return draw


def from_makers(makers: Sequence[tuple[Make, int]]) -> Make:
    """Draws a kind, then a phrase of it."""
    items = weighted(makers)
    size = len(items)

    def draw(random: Random) -> Phrase:
        return items[int(random.random() * size)](random)

    return draw
