"""What someone does: verb phrases, with an object or complete in themselves."""

from collections.abc import Callable
from functools import cache
from random import Random

from models.everyday import english
from models.everyday.kinds import noun_kind, noun_phrases
from models.everyday.lexicon import Word, table, with_class
from models.everyday.phrase import Make, Phrase, from_list, from_makers

_BARE = (("bare", 1),)
_POINTED = (("pointed", 3), ("owned", 2))
_EVENT = (
    ("one", 5),
    ("counted", 2),
    ("pointed", 3),
    ("owned", 2),
    ("described", 2),
    ("that_described", 1),
)


def verb(zh: str, en: str) -> dict[str, str]:
    """Forms of a verb that an object follows."""
    return english.verb_forms(en) | {
        "zh": zh,
        "le": zh + "了",
        "guo": zh + "过",
        "anota": f"{zh[0]}不{zh}",
    }


def action(word: Word) -> Phrase:
    """A complete verb phrase; 吃/饭 is 吃了饭 and 吃过饭, 休息 is 休息了 and 休息过."""
    head, _, tail = word.zh.partition("/")
    forms = english.verb_forms(word.en) | {
        "zh": head + tail,
        "le": f"{head}了{tail}",
        "guo": f"{head}过{tail}",
    }
    return Phrase(forms)


def actions(*classes: str, without: str = "") -> Make:
    """Complete verb phrases of the classes."""
    words = with_class(table("actions"), *classes)
    return from_list([(action(word), word.weight) for word in words if without not in word.classes])


@cache
def _complete() -> frozenset[str]:
    return frozenset(word.zh.replace("/", "") for word in table("actions"))


def with_object(forms: dict[str, str], objects: Make) -> Make:
    """A verb with an object of a kind."""

    def draw(random: Random) -> Phrase:
        thing = objects(random)
        return Phrase(forms, thing.forms["zh"], " " + thing.forms["obj"], thing.root)

    return draw


def _objects(word: Word, kind: str, name: str) -> Make | None:
    """A verb's objects, without those that make an action of its own: 看书 is "read"."""
    if kind != "bare":
        return noun_kind(kind, name)
    phrases = noun_phrases(kind, name)
    own = [(p, w) for p, w in phrases if word.zh + p.forms["zh"] not in _complete()]
    return from_list(own) if own else None


def _with_objects(keep: Callable[[Word], bool], kinds: tuple[tuple[str, int], ...]) -> Make:
    makers: list[tuple[Make, int]] = []
    for word in table("verbs"):
        if not keep(word):
            continue
        names = word.fields["objects"].split()
        chosen = _POINTED if "p" in word.classes and kinds is _EVENT else kinds
        objects = [
            (made, weight * 6 // len(names))
            for kind, weight in chosen
            for name in names
            if (made := _objects(word, kind, name)) is not None
        ]
        if objects:
            makers.append((with_object(verb(word.zh, word.en), from_makers(objects)), word.weight))
    return from_makers(makers)


_PASSIVE = frozenset("批评 表扬 骗 打 救 邀请 看见 保护".split())


def _manner(word: Word) -> Phrase:
    """跑得很快 runs very fast; without 很, "neg": 跑得不快 does not run fast."""
    adverb_zh, adverb = word.fields["adverb_zh"], word.fields["adverb"]
    forms = english.verb_forms(word.en)
    forms = {name: f"{form} very {adverb}" for name, form in forms.items()} | {
        "zh": f"{word.zh}得很{adverb_zh}",
        "negated": f"{word.zh}得不{adverb_zh}",
        "zasked": f"{word.zh}得{adverb_zh}",
        "neg": f"{word.en} {adverb}",
    }
    return Phrase(forms)


@cache
def verb_kinds() -> dict[str, Make]:
    """The kinds of verb phrases by name.

    now: what can be going on; habit: what is done again and again; event: what happens
    once, complete with 了; doing: what can be wanted, planned, asked for.
    """
    habit = _with_objects(lambda word: not word.classes & {"b", "s", "o"}, _BARE)
    now = _with_objects(lambda word: not word.classes & {"b", "s", "o", "h"}, _BARE)
    event = _with_objects(lambda word: not word.classes & {"s", "o"}, _EVENT)
    stative = [word for word in table("person_verbs") if "s" in word.classes]
    strong = [word for word in stative if "v" in word.classes]
    dynamic = [word for word in table("person_verbs") if "e" in word.classes]
    lasting = [word for word in dynamic if "b" not in word.classes]

    def alone(words: list[Word]) -> Make:
        return from_list([(Phrase(verb(word.zh, word.en)), word.weight) for word in words])

    undone = from_makers(
        [
            (_with_objects(lambda word: not word.classes & {"s", "o"}, _POINTED), 3),
            (habit, 1),
        ]
    )
    tried = _with_objects(lambda word: not word.classes & {"b", "s", "o"}, _BARE)
    passive = [word for word in dynamic if word.zh in _PASSIVE]
    return {
        "undone": from_makers(
            [(actions("daily", "routine", "school", "event", "go", "fun"), 3), (undone, 3)]
        ),
        "tried": from_makers([(actions("fun", "skill", "work", "school"), 3), (tried, 3)]),
        "able": actions("go", "work", "meal", "polite", "rest", "chore"),
        "please": from_makers([(actions("polite"), 2), (actions("rest", "chore"), 2), (event, 1)]),
        "suggested": actions("fun", "meal", "rest", "go", "school"),
        "goes": actions("go"),
        "passive": alone(passive),
        "manner": from_list([(_manner(word), word.weight) for word in table("manner")]),
        "lasted": alone(list(table("lasting"))),
        "weather": from_list(
            [(Phrase(verb("下雨", "rain")), 3), (Phrase(verb("下雪", "snow")), 2)]
        ),
        "now": from_makers([(actions("prog"), 3), (now, 3)]),
        "habit": from_makers([(actions("daily", "fun"), 4), (habit, 2)]),
        "event": from_makers(
            [
                (
                    actions(
                        "daily", "routine", "fun", "school", "event", "go", "work", without="nole"
                    ),
                    2,
                ),
                (event, 4),
            ]
        ),
        "object_event": event,
        "object_habit": habit,
        "doing": from_makers(
            [
                (actions("daily", "routine", "fun", "school", "event", "go", "health", "work"), 3),
                (event, 3),
            ]
        ),
        "feels": alone(stative),
        "feels_much": alone(strong),
        "does": alone(dynamic),
        "does_long": alone(lasting),
    }
