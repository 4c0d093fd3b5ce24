"""Plain text and small talk of the everyday world, in Chinese and in English.

What is said about oneself is the model's: it is small, called lucidlm mini or 小亮, and
knows neither the day nor the weather.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from re import search, sub

from models.data.holdout import allowed_text
from models.everyday import chinese, english
from models.everyday.grammar import compiled, of_file, sentence, templates
from models.everyday.kinds import Noun
from models.everyday.lexicon import table, weighted

FOLDER = Path(__file__).parent / "spoken"
LANGUAGES = ("zh", "en")
LIMIT = 20
"""Sums go up to this number."""

Turn = tuple[str, str]
"""What the user says, and the answer."""
Ask = Callable[[Random], Turn]


def rows(name: str) -> list[dict[str, str]]:
    """The rows of `spoken/NAME.tsv` by column."""
    lines = (FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    columns = lines[0].split("\t")
    return [dict(zip(columns, line.split("\t"), strict=True)) for line in lines[1:]]


def _one(random: Random, choices: str) -> str:
    return random.choice(choices.split(" / "))


@cache
def _small_talk(language: str, *parts: str) -> list[tuple[str, str]]:
    found = [row for row in rows(language) if row["part"] in parts]
    return weighted([((row["questions"], row["answers"]), int(row["weight"])) for row in found])


def _said(language: str, *parts: str) -> Ask:
    def ask(random: Random) -> Turn:
        questions, answers = random.choice(_small_talk(language, *parts))
        return _one(random, questions), _one(random, answers)

    return ask


_SUMS = {
    "zh": ("{a}{sign}{b}等于几？ / {a}{sign}{b}等于多少？ / {a}{sign}{b}是多少？", "加", "减"),
    "en": ("what is {a} {sign} {b}? / how much is {a} {sign} {b}?", "plus", "minus"),
}


def _sum(language: str) -> Ask:
    questions, plus, minus = _SUMS[language]
    words = chinese.number if language == "zh" else english.number

    def ask(random: Random) -> Turn:
        whole = random.randint(0, LIMIT)
        part = random.randint(0, whole)
        a, sign, b, result = (
            (part, plus, whole - part, whole)
            if random.random() < 0.5
            else (whole, minus, part, whole - part)
        )
        digits = random.random() < 0.2
        say = str if digits else words
        question = _one(random, questions).format(a=say(a), sign=sign, b=say(b))
        if language == "zh":
            answers = f"{say(result)}。 / {say(a)}{sign}{say(b)}等于{say(result)}。"
        else:
            answers = f"{say(result)}. / {say(a)} {sign} {say(b)} is {say(result)}."
        return question, _one(random, answers)

    return ask


def _counting(language: str) -> Ask:
    def ask(random: Random) -> Turn:
        first, length = random.randint(1, 12), random.randint(2, 8)
        last = first + length
        if random.random() < 0.4:
            if language == "zh":
                number = chinese.number
                return f"{number(first)}后面是几？", f"{number(first + 1)}。"
            return f"what comes after {english.number(first)}?", f"{english.number(first + 1)}."
        span = range(first, last + 1)
        if language == "zh":
            question = f"从{chinese.number(first)}数到{chinese.number(last)}。"
            return question, "、".join(map(chinese.number, span)) + "。"
        question = f"count from {english.number(first)} to {english.number(last)}."
        return question, ", ".join(map(english.number, span)) + "."

    return ask


_OPPOSITES = {
    "zh": (
        "{a}的反义词是什么？ / “{a}”的反义词是什么？ / {a}的反义词 / 什么是{a}的反义词？",
        "{b}。 / {a}的反义词是{b}。",
    ),
    "en": (
        "what is the opposite of {a}? / the opposite of {a}? / tell me the opposite of {a}.",
        "{b}. / The opposite of {a} is {b}.",
    ),
}
_COLORS = {
    "zh": ("{a}是什么颜色的？ / {a}是什么颜色？", "{a}是{b}的。 / {b}。"),
    "en": ("what color {be} {a}?", "{a} {be} {b}. / {b}."),
}
_FOODS = {
    "zh": ("{a}吃什么？ / {a}喜欢吃什么？", "{a}吃{b}。 / {a}喜欢吃{b}。"),
    "en": ("what do {a} eat? / what do {a} like to eat?", "{a} eat {b}. / {a} like to eat {b}."),
}
_SOUNDS = {
    "zh": ("{a}怎么叫？", "{b}！ / {a}的叫声是“{b}”。"),
    "en": ("what do {a} say?", '{b}! / {a} say "{b}".'),
}


def _filled(phrasings: tuple[str, str], facts: list[dict[str, str]]) -> Ask:
    questions, answers = phrasings

    def ask(random: Random) -> Turn:
        fact = random.choice(facts)
        return _one(random, questions).format(**fact), _one(random, answers).format(**fact)

    return ask


def _facts(name: str, language: str, value: str) -> list[dict[str, str]]:
    found = [
        {"a": row[language], "b": row[f"{language}_{value}"], "be": row.get("be", "")}
        for row in rows(name)
    ]
    return [fact for fact in found if fact["b"]]


def _opposites(language: str) -> Ask:
    facts = _facts("opposites", language, "opposite")
    return _filled(_OPPOSITES[language], [*facts, *({"a": f["b"], "b": f["a"]} for f in facts)])


def _category(language: str) -> Ask:
    kinds = rows("categories")

    def ask(random: Random) -> Turn:
        own, other = random.sample(kinds, 2)
        if language == "zh":
            member, name = random.choice(own["zh_members"].split()), own["zh"]
            if random.random() < 0.5:
                return f"{member}是{name}吗？", f"是的，{member}是{name}。"
            return f"{member}是{other['zh']}吗？", f"不是，{member}是{name}。"
        member, name = random.choice(own["en_members"].split("; ")), own["en_one"]
        if random.random() < 0.5:
            return f"is {member} {name}?", f"Yes, {member} is {name}."
        return f"is {member} {other['en_one']}?", f"No, {member} is {name}."

    return ask


def _feeling(language: str) -> Ask:
    facts = rows("feelings")
    degrees = (
        ("很", "很", "有点儿", "太", "今天很", "非常")
        if language == "zh"
        else ("very", "very", "so", "a little", "")
    )

    def ask(random: Random) -> Turn:
        fact, degree = random.choice(facts), random.choice(degrees)
        answer = _one(random, fact[f"{language}_answers"])
        if language == "zh":
            return f"我{degree}{fact['zh']}{'了' if degree == '太' else ''}", answer
        return " ".join(f"I am {degree} {fact['en']}".split()), answer

    return ask


def _situation(language: str) -> Ask:
    facts = rows("situations")

    def ask(random: Random) -> Turn:
        fact = random.choice(facts)
        return fact[language], fact[f"{language}_answer"]

    return ask


def _word(language: str) -> Ask:
    """How a word is said in the other language."""
    nouns = [Noun(word) for word in table("nouns") if word.weight > 0]
    words = [(noun.zh, noun.definite.removeprefix("the ")) for noun in nouns]
    for name in ("colors", "hobbies", "school_subjects", "countries"):
        words += [(word.zh, word.en) for word in table(name)]

    def ask(random: Random) -> Turn:
        zh, en = random.choice(words)
        if language == "zh":
            questions = (
                f"“{zh}”用英语怎么说？ / {zh}用英语怎么说？ / {zh}的英语是什么？"
                f" / 英语里怎么说“{zh}”？"
            )
            return _one(random, questions), sentence(f"{en}.")
        questions = (
            f'how do you say "{en}" in Chinese? / what is "{en}" in Chinese?'
            f" / what is {en} in Chinese?"
        )
        return _one(random, questions), f"{zh}。"

    return ask


def _kinds(language: str) -> list[Ask]:
    return weighted(
        [
            (_said(language, "ask"), 16),
            (_said(language, "tell"), 8),
            (_feeling(language), 8),
            (_situation(language), 6),
            (_sum(language), 7),
            (_word(language), 6),
            (_opposites(language), 4),
            (_category(language), 3),
            (_filled(_COLORS[language], _facts("colors", language, "color")), 3),
            (_filled(_FOODS[language], _facts("animals", language, "food")), 3),
            (_filled(_SOUNDS[language], _facts("animals", language, "sound")), 1),
            (_counting(language), 3),
        ]
    )


def _typed(random: Random, text: str, language: str) -> str:
    """As people type: with or without a mark at the end or a capital at the beginning."""
    bare = text.rstrip("。？！.?!")
    asks = text.endswith(("？", "?")) or _asks(bare, language)
    if random.random() < 0.45:
        text = bare
    elif text == bare:
        text = bare + {"zh": "。？", "en": ".?"}[language][asks]
    if language == "en" and random.random() < 0.7:
        text = sentence(text)
    return text


_ASKING = (
    "what",
    "who",
    "how",
    "where",
    "why",
    "can ",
    "do ",
    "does ",
    "are ",
    "is ",
    "may ",
    "have ",
)


def _asks(bare: str, language: str) -> bool:
    if language == "en":
        return bare.lower().startswith(_ASKING)
    return search(r"吗|什么|怎么|几|哪|谁|多大|多少|还是|(.)不\1", bare) is not None


def _answered(text: str) -> str:
    return sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def dialogues(seed: int, count: int) -> Iterator[list[Turn]]:
    """`count` conversations of one to five turns (what the user says, the answer), half in Chinese.

    The same for the same seed; nothing that `models.data.holdout` forbids is said.
    """
    random = Random(seed)
    kinds = {language: _kinds(language) for language in LANGUAGES}
    made = 0
    while made < count:
        language = random.choice(LANGUAGES)
        asked: list[Turn] = []
        if random.random() < 0.3:
            asked.append(_said(language, "greet")(random))
        for _ in range(
            random.choice((0, 1, 1, 1, 2, 2, 3)) if asked else random.choice((1, 1, 1, 2, 3))
        ):
            asked.append(random.choice(kinds[language])(random))
        if len(asked) > 1 and random.random() < 0.4:
            asked.append(_said(language, *random.choice((("thank",), ("bye",))))(random))
        elif len(asked) == 1 and random.random() < 0.06:
            asked = [_said(language, "thank", "bye")(random)]
        turns = [
            (_typed(random, question, language), _answered(answer) if language == "en" else answer)
            for question, answer in asked
        ]
        if len({question for question, _ in turns}) < len(turns):
            continue
        if not all(map(allowed_text, (side for turn in turns for side in turn))):
            continue
        made += 1
        yield turns


def continuations(seed: int, count: int) -> Iterator[str]:
    """`count` plain texts, Chinese or English, of one to three sentences that hang together.

    The same for the same seed, and with repetitions: how often a short sentence comes is
    how likely it is.
    """
    random = Random(seed)
    texts, single = compiled(of_file("texts")), templates()
    made = 0
    while made < count:
        drawn = texts if random.random() < 0.6 else single
        zh, en, _ = drawn[int(random.random() * len(drawn))].draw(random)
        text = zh if random.random() < 0.5 else _answered(en)
        if allowed_text(text):
            made += 1
            yield text
