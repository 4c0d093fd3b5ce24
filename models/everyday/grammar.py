"""Sentence pairs of the everyday world, drawn from templates over the lexicon.

Every sentence of the grammar has one translation in it, in both directions: tense is
tied to 了, 过, 在, 会 and to words of time, number to measure words, so that a small
model can learn to translate all of it and be measured on sentences that it has not
seen.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path
from random import Random

from models.data.holdout import allowed_pair
from models.everyday.kinds import noun_kind
from models.everyday.phrase import Make, Template, compile_template
from models.everyday.places import adjective_kind, compared_kind, place_kind, spot_kind, time_kind
from models.everyday.registry import simple
from models.everyday.verbs import actions

FOLDER = Path(__file__).parent / "templates"
_MACROS = {
    "ADJ": (
        "fruit food drink soup dish clothes device thing furniture vehicle building room site town "
        "read show story picture problem exam job song idea ticket animal "
        "road lake nature dream gathering plant"
    )
}
_CLASSED: dict[str, Callable[[str], Make]] = {
    "a": actions,
    "adj": adjective_kind,
    "compared": compared_kind,
    "place": place_kind,
    "time": time_kind,
    "spot": spot_kind,
}


@cache
def kind(name: str) -> Make:
    """The phrases that a slot's name stands for: "who", "one.food", "a.skill" ..."""
    plain = simple().get(name)
    if plain is not None:
        return plain
    head, _, tail = name.partition(".")
    if head in _CLASSED:
        return _CLASSED[head](tail)
    made = noun_kind(head, tail)
    if made is None:
        raise ValueError(f"no phrases of the kind {name}")
    return made


def rows(name: str) -> list[list[str]]:
    """The rows of `templates/NAME.tsv`."""
    lines = (FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines[1:]]


_JOINED = {  # pairs of clauses about the same person, as the table's rows are joined: zh, en
    "because": (
        ("因为{who}%s，所以{who:zpro}%s。", "because {who} %s, {who:pro} %s."),
        ("{who}%s，所以{who:zpro}%s。", "{who} %s, so {who:pro} %s."),
    ),
    "although": (
        ("虽然{who}%s，但是{who:zpro}%s。", "although {who} %s, {who:pro} %s."),
        ("{who}%s，但是{who:zpro}%s。", "{who} %s, but {who:pro} %s."),
    ),
    "if": (("如果{who}%s，{who:zpro}就%s。", "if {who} %s, {who:pro} %s."),),
    "when": (("{who}%s的时候，{who:zpro}%s。", "when {who} %s, {who:pro} %s."),),
}
_AGREEING = ("be", "was", "have", "do", "dont")


def joined_sources() -> Iterator[tuple[str, str]]:
    """Templates of two clauses. In the table, $be and $want agree with the person."""

    def agreed(text: str) -> str:
        return re.sub(
            r"\$(\w+)",
            lambda m: f"{{who:{m[1]}}}" if m[1] in _AGREEING else f"{{{m[1]}@who}}",
            text,
        )

    for name, zh_first, zh_second, en_first, en_second in rows("joined"):
        for zh, en in _JOINED[name]:
            yield zh % (zh_first, zh_second), en % (agreed(en_first), agreed(en_second))


def of_file(file: str) -> Iterator[tuple[int, str, str]]:
    """A file's templates as (weight in hundredths, Chinese, English), one for each of its
    classes."""
    for weight, zh, en, classes in rows(file):
        names = _MACROS.get(classes, classes).split()
        for name in names or [""]:
            share = max(1, 100 * int(weight) // max(1, len(names)))
            yield share, zh.replace("$C", name), en.replace("$C", name)


def sources() -> Iterator[tuple[int, str, str]]:
    """Every template of the pairs."""
    for file in ("people", "doing", "being", "things", "places", "clauses"):
        yield from of_file(file)
    for zh, en in joined_sources():
        yield 60, zh, en
    for weight, zh, en in rows("phrases"):
        yield 5 * int(weight), zh, en


def compiled(rows: Iterable[tuple[int, str, str]]) -> tuple[Template, ...]:
    """The compiled templates, each as often as its weight says."""
    found: list[Template] = []
    for weight, zh, en in rows:
        found += [compile_template(zh, en, kind)] * max(1, weight // 5)
    return tuple(found)


@cache
def templates() -> tuple[Template, ...]:
    """The templates of the pairs."""
    return compiled(sources())


@cache
def fixed() -> frozenset[str]:
    """The Chinese sentences without a slot: nothing else teaches them, so they are not
    for measuring."""
    return frozenset(zh for _, zh, _ in sources() if "{" not in zh)


def sentence(text: str) -> str:
    """An English sentence with its first letter as a capital."""
    return text[0].upper() + text[1:]


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def _allowed(zh: str, en: str) -> bool:
    # The rules read a text closely, which takes longer than to make it: only where they can forbid.
    if "爱" in zh or "开心" in zh or "love" in en or "happy" in en:
        return allowed_pair(zh, en)
    return True


def _unended(text: str) -> str:
    return text.rstrip("。？！.?!")


def pairs(seed: int, count: int, unpunctuated: float = 0.0) -> Iterator[tuple[str, str]]:
    """`count` distinct pairs (Chinese, English), the same for the same seed.

    No Chinese sentence comes twice, nor an English one. `unpunctuated` is the share of
    pairs that end without a mark on both sides, as people type in chats. What the rules
    of `models.data.holdout` forbid is left out.
    """
    random = Random(seed)
    drawn = templates()
    size = len(drawn)
    seen_zh: set[int] = set()
    seen_en: set[int] = set()
    made = 0
    while made < count:
        zh, en, _ = drawn[int(random.random() * size)].draw(random)
        key_zh, key_en = _key(zh), _key(en)
        if key_zh in seen_zh or key_en in seen_en or not _allowed(zh, en):
            continue
        seen_zh.add(key_zh)
        seen_en.add(key_en)
        made += 1
        en = sentence(en)
        if unpunctuated and random.random() < unpunctuated:
            yield _unended(zh), _unended(en)
        else:
            yield zh, en
