"""Noun phrases: who does it, what it is done to, and what is said about things."""

from collections.abc import Callable, Iterable
from functools import cache

from models.everyday import chinese, english
from models.everyday.lexicon import Word, table, with_class
from models.everyday.phrase import Make, Phrase, from_list, from_makers

Weighted = tuple[Phrase, int]

_PLURAL = {"agr": "base", "be": "are", "was": "were", "have": "have", "do": "do", "dont": "don't"}
_FIRST = _PLURAL | {"be": "am", "was": "was"}
_THIRD = {"agr": "s", "be": "is", "was": "was", "have": "has", "do": "does", "dont": "doesn't"}
_PRO = {
    "m": {"pro": "he", "zpro": "他", "prop": "his", "proobj": "him"},
    "f": {"pro": "she", "zpro": "她", "prop": "her", "proobj": "her"},
    "pl": {"pro": "they", "zpro": "他们", "prop": "their", "proobj": "them"},
}
_PRONOUNS: tuple[tuple[str, str, str, str, dict[str, str], tuple[int, int, int]], ...] = (
    # zh, en, object, possessive, agreement, weight as a subject, as one asked, as an object
    ("我", "I", "me", "my", _FIRST, (60, 2, 16)),
    ("你", "you", "you", "your", _PLURAL, (10, 60, 16)),
    ("他", "he", "him", "his", _THIRD, (36, 16, 14)),
    ("她", "she", "her", "her", _THIRD, (36, 16, 14)),
    ("我们", "we", "us", "our", _PLURAL, (22, 4, 8)),
    ("他们", "they", "them", "their", _PLURAL, (16, 8, 8)),
)


def _pronouns(column: int) -> list[Weighted]:
    phrases = []
    for row in _PRONOUNS:
        zh, en, obj, poss, agreement, weights = row
        forms = agreement | {"zh": zh, "en": en, "obj": obj, "poss": poss, "zposs": zh + "的"}
        forms |= {"pro": en, "zpro": zh, "prop": poss, "proobj": obj}
        phrases.append((Phrase(forms, root=zh[0] if zh[0] in "我你" else zh), weights[column]))
    return phrases


def person(zh: str, en: str, gender: str, zposs: str = "") -> Phrase:
    """Someone who is not a pronoun; `gender` m, f, or pl for several."""
    agreement = _PLURAL if gender == "pl" else _THIRD
    poss = en + ("'" if en.endswith("s") and gender == "pl" else "'s")
    forms = agreement | {"zh": zh, "en": en, "obj": en, "poss": poss, "zposs": zposs or zh + "的"}
    return Phrase(forms | _PRO[gender], root=zh)


@cache
def _people() -> tuple[list[Weighted], list[Weighted]]:
    """Kin and friends (mom, my mom, my friend), and everyone else (names, the teacher,
    this child)."""
    near: list[Weighted] = []
    far: list[Weighted] = []
    for word in table("people"):
        zh, en, gender, weight = word.zh, word.en, word.fields["gender"], word.weight
        if "bare" in word.classes:
            near.append((person(zh, en.capitalize(), gender), weight))
        if {"kin", "own"} & word.classes:
            for owner, possessive, times in (
                ("我", "my", 3),
                ("你", "your", 1),
                ("他", "his", 1),
                ("她", "her", 1),
            ):
                if (owner, gender) in (("他", "m"), ("她", "f")) and "spouse" in word.classes:
                    continue
                between = "" if "kin" in word.classes else "的"
                near.append(
                    (person(owner + between + zh, f"{possessive} {en}", gender), weight * times)
                )
        if "role" in word.classes:
            far.append((person(zh, f"the {en}", gender), weight))
        if "dem" in word.classes:
            far.append((person("这个" + zh, f"this {en}", gender), weight))
            far.append((person("那个" + zh, f"that {en}", gender), weight))
            far.append((person("这些" + zh, f"these {english.plural(en)}", "pl"), 1))
    for word in table("names"):
        far.append((person(word.zh, word.en, word.fields["gender"]), word.weight * 3))
    far.append((person("孩子们", "the children", "pl"), 6))
    far.append((person("学生们", "the students", "pl"), 4))
    return near, far


def who() -> Make:
    """A subject of a statement."""
    near, far = _people()
    return from_makers([(from_list(_pronouns(0)), 14), (from_list(near), 3), (from_list(far), 3)])


def asked() -> Make:
    """A subject of a question: mostly you."""
    near, far = _people()
    return from_makers([(from_list(_pronouns(1)), 14), (from_list(near), 2), (from_list(far), 2)])


def whom() -> Make:
    """Someone as an object; "whom" of pronouns more often than as a subject."""
    near, far = _people()
    return from_makers([(from_list(_pronouns(2)), 14), (from_list(near), 3), (from_list(far), 2)])


def third() -> Make:
    """Someone who is neither speaker nor listener."""
    near, far = _people()
    pronouns = [item for item in _pronouns(0) if item[0].root not in ("我", "你")]
    return from_makers([(from_list(pronouns), 4), (from_list(near), 3), (from_list(far), 3)])


def one_person() -> Make:
    """A single person, who can be a teacher or the tallest."""
    pools = [_pronouns(0), *_people()]
    singular = [
        [(p, w) for p, w in pool if p.root != "我们" and p.forms["prop"] not in ("our", "their")]
        for pool in pools
    ]
    return from_makers(
        [(from_list(pool), weight) for pool, weight in zip(singular, (4, 1, 1), strict=True)]
    )


def asked_one() -> Make:
    """A single person who is asked about."""
    near, far = _people()
    singular = [(p, w) for p, w in _pronouns(1) if p.forms["zh"] in ("你", "他", "她")]
    others = [(p, w) for p, w in [*near, *far] if p.forms["prop"] != "their"]
    return from_makers([(from_list(singular), 5), (from_list(others), 1)])


def whom_not_you() -> Make:
    """An object of a request."""
    near, far = _people()
    pronouns = [(p, w) for p, w in _pronouns(2) if p.root != "你"]
    others = [(p, w) for p, w in [*near, *far] if not p.forms["zh"].startswith("你")]
    return from_makers([(from_list(pronouns), 5), (from_list(others), 2)])


def kin() -> Make:
    """Someone's relative or friend: my mom."""
    near, _ = _people()
    return from_list([(p, w) for p, w in near if len(p.root) > 2])


def young() -> Make:
    """Someone who has yet to grow up, or may have: I, he, his son, my younger brother."""
    near, _ = _people()
    some = [(p, w) for p, w in _pronouns(0) if p.forms["zh"] in ("我", "他", "她")]
    kin = [(p, w) for p, w in near if p.forms["zh"].endswith(("弟弟", "妹妹", "儿子", "女儿"))]
    return from_makers([(from_list(some), 2), (from_list(kin), 1)])


def kin_counted() -> tuple[Make, Make]:
    """Relatives as one has them: two older brothers, and without a number: an older brother."""
    counted: list[Weighted] = []
    plain: list[Weighted] = []
    for word in with_class(table("people"), "kin"):
        if "bare" in word.classes or word.fields["gender"] == "pl":
            continue
        plain.append((thing(word.zh, english.article(word.en)), word.weight))
        counted.append((thing(f"一个{word.zh}", english.article(word.en)), word.weight * 2))
        if word.en in ("husband", "wife", "girlfriend", "boyfriend"):
            continue
        for count in (2, 3, 4):
            zh = f"{chinese.counted(count)}个{word.zh}"
            counted.append(
                (thing(zh, f"{english.number(count)} {english.plural(word.en)}"), word.weight)
            )
    return from_list(counted), from_list(plain)


def people_kinds() -> dict[str, Make]:
    """The kinds of people by name."""
    counted, plain = kin_counted()
    return {
        "who": who(),
        "asked": asked(),
        "asked_one": asked_one(),
        "whom": whom(),
        "whom_not_you": whom_not_you(),
        "third": third(),
        "one_person": one_person(),
        "several": several(),
        "kin": kin(),
        "young": young(),
        "kincount": counted,
        "kinplain": plain,
    }


def several() -> Make:
    """Several people; 你们 too, where a plural noun follows in English."""
    you = _pronouns(1)[1][0]
    forms = dict(you.forms) | {"zh": "你们", "zposs": "你们的", "zpro": "你们"}
    plural = [(p, w) for p, w in _pronouns(0) if p.forms["zh"] in ("我们", "他们")]
    return from_list([*plural, (Phrase(forms, root="你"), 16)])


def thing(zh: str, en: str, plural: bool = False, root: str = "") -> Phrase:
    """A noun phrase that is no person."""
    pro = (
        {"pro": "they", "zpro": "它们", "proobj": "them"}
        if plural
        else {"pro": "it", "zpro": "它", "proobj": "it"}
    )
    return Phrase(
        (_PLURAL if plural else _THIRD) | pro | {"zh": zh, "en": en, "obj": en}, root=root or zh
    )


class Noun:
    """A row of the nouns in its countable and bare forms."""

    def __init__(self, word: Word) -> None:
        self.word = word
        self.zh = word.zh
        self.measure = word.fields["measure"]
        self.countable = bool(self.measure)
        self.mass = "mass" in word.classes
        self.pair = "pair" in word.classes
        self.one = word.fields["singular"]
        self.many = word.fields["plural"] or (english.plural(self.one) if self.one else "")
        if self.one and " of " in self.one and not word.fields["plural"]:
            head, tail = self.one.split(" of ", 1)
            self.many = f"{english.plural(head)} of {tail}"
        self.bare = word.fields["bare"] or self.many
        definite = self.bare if self.mass or self.pair else self.one
        self.definite = definite
        self.the = definite if definite.startswith("the ") else f"the {definite}"

    def with_adjective(self, adjective: str, many: bool = False) -> str:
        """The counted form with an adjective: "big apple", "cup of hot tea"; "" if it has no
        place."""
        phrase = self.many if many else self.one
        if not (self.mass or self.pair):
            return f"{adjective} {phrase}"
        return (
            phrase.removesuffix(self.bare) + f"{adjective} {self.bare}"
            if phrase.endswith(" " + self.bare)
            else ""
        )


@cache
def nouns(name: str) -> list[Noun]:
    """The nouns of a class."""
    return [Noun(word) for word in with_class(table("nouns"), name)]


def modifier(zh: str) -> str:
    """An adjective before its noun: 大, but 漂亮的."""
    return zh if len(zh) == 1 else zh + "的"


def adjectives(name: str) -> list[Word]:
    """The adjectives that describe a class."""
    return with_class(table("adjectives"), name)


def _any(noun: Noun) -> Iterable[Weighted]:
    en = noun.bare if noun.mass or noun.pair else english.article(noun.one)
    yield thing(noun.zh, en, noun.pair, noun.zh), 1


def _bare(noun: Noun) -> Iterable[Weighted]:
    yield thing(noun.zh, noun.bare, not noun.mass, noun.zh), 1


def _one(noun: Noun) -> Iterable[Weighted]:
    if noun.countable:
        yield thing(f"一{noun.measure}{noun.zh}", english.article(noun.one), root=noun.zh), 1


def _counted(noun: Noun) -> Iterable[Weighted]:
    yield (
        thing(
            f"很多{noun.zh}", f"a lot of {noun.bare.removeprefix('the ')}", not noun.mass, noun.zh
        ),
        2,
    )
    yield (
        thing(f"一些{noun.zh}", f"some {noun.bare.removeprefix('the ')}", not noun.mass, noun.zh),
        2,
    )
    if not noun.countable:
        return
    for count in range(2, 11):
        zh = f"{chinese.counted(count)}{noun.measure}{noun.zh}"
        yield (
            thing(zh, f"{english.number(count)} {noun.many}", True, noun.zh),
            4 if count < 5 else 1,
        )
    yield thing(f"几{noun.measure}{noun.zh}", f"a few {noun.many}", True, noun.zh), 1


def _pointed(noun: Noun) -> Iterable[Weighted]:
    if not noun.countable:
        return
    yield thing(f"这{noun.measure}{noun.zh}", f"this {noun.one}", root=noun.zh), 5
    yield thing(f"那{noun.measure}{noun.zh}", f"that {noun.one}", root=noun.zh), 4
    if not noun.mass:
        yield thing(f"这些{noun.zh}", f"these {noun.bare}", True, noun.zh), 2
        yield thing(f"那些{noun.zh}", f"those {noun.bare}", True, noun.zh), 1


_UNOWNED = frozenset("transit site nature town sky show news ticket animal building exam".split())


def _owned(noun: Noun) -> Iterable[Weighted]:
    if _UNOWNED & noun.word.classes and not noun.word.classes & {"pet", "owned"}:
        return
    for row, weight in zip(_PRONOUNS, (6, 4, 3, 3, 1, 1), strict=True):
        yield thing(f"{row[0]}的{noun.zh}", f"{row[3]} {noun.definite}", noun.pair, noun.zh), weight
    for zh, en in (
        ("妈妈", "Mom"),
        ("爸爸", "Dad"),
        ("老师", "the teacher"),
        ("我朋友", "my friend"),
        ("小明", "Xiaoming"),
    ):
        yield thing(f"{zh}的{noun.zh}", f"{en}'s {noun.definite}", noun.pair, noun.zh), 1


def _adjectives_of(noun: Noun) -> list[Word]:
    described = {word.zh: word for name in sorted(noun.word.classes) for word in adjectives(name)}
    if {"clothes", "device", "vehicle", "thing"} & noun.word.classes:
        described |= {word.zh: word for word in table("colors")}
    return [
        word
        for word in described.values()
        if noun.countable and noun.with_adjective(word.en) and word.fields.get("degree") != "-"
    ]


def _described(noun: Noun) -> Iterable[Weighted]:
    for word in _adjectives_of(noun):
        zh, en = modifier(word.zh) + noun.zh, noun.with_adjective(word.en)
        two = f"two {noun.with_adjective(word.en, True)}"
        yield thing(f"一{noun.measure}{zh}", english.article(en), root=noun.zh), 2 * word.weight
        yield thing(f"两{noun.measure}{zh}", two, True, noun.zh), max(1, word.weight // 2)


def _that_described(noun: Noun) -> Iterable[Weighted]:
    for word in _adjectives_of(noun):
        zh, en = modifier(word.zh) + noun.zh, noun.with_adjective(word.en)
        yield thing(f"这{noun.measure}{zh}", f"this {en}", root=noun.zh), word.weight
        yield thing(f"那{noun.measure}{zh}", f"that {en}", root=noun.zh), word.weight


def _noun(noun: Noun) -> Iterable[Weighted]:
    yield thing(noun.zh, noun.definite, noun.pair, noun.zh), 1


def _many(noun: Noun) -> Iterable[Weighted]:
    if noun.countable:
        for count in range(2, 7):
            zh = f"{chinese.counted(count)}{noun.measure}{noun.zh}"
            yield thing(zh, f"{english.number(count)} {noun.many}", True, noun.zh), 1


def _how_many(noun: Noun) -> Iterable[Weighted]:
    if noun.countable:
        yield thing(f"几{noun.measure}{noun.zh}", f"how many {noun.many}", True, noun.zh), 1


def _the(noun: Noun) -> Iterable[Weighted]:
    yield thing(noun.zh, noun.the, noun.pair, noun.zh), 1


_NOUN_KINDS: dict[str, Callable[[Noun], Iterable[Weighted]]] = {
    "any": _any,
    "bare": _bare,
    "one": _one,
    "counted": _counted,
    "pointed": _pointed,
    "owned": _owned,
    "described": _described,
    "that_described": _that_described,
    "the": _the,
    "noun": _noun,
    "many": _many,
    "howmany": _how_many,
}


@cache
def noun_phrases(kind: str, name: str) -> tuple[Weighted, ...]:
    """Phrases of a kind over the nouns of a class; none where no noun has any."""
    phrases: list[Weighted] = []
    for noun in nouns(name):
        made = list(_NOUN_KINDS[kind](noun))
        total = sum(weight for _, weight in made)
        # A noun's weight is shared by its phrases, in steps fine enough for the longest list.
        phrases += [
            (phrase, max(1, round(60 * noun.word.weight * weight / total)))
            for phrase, weight in made
        ]
    return tuple(phrases)


@cache
def noun_kind(kind: str, name: str) -> Make | None:
    """Draws from `noun_phrases`, or None where there are none."""
    phrases = noun_phrases(kind, name)
    return from_list(phrases) if phrases else None
