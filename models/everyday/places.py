"""When, where, how many: times of day, dates, ages, prices, places, colours, jobs."""

from functools import cache

from models.everyday import chinese, english
from models.everyday.kinds import adjectives
from models.everyday.lexicon import Word, table, with_class
from models.everyday.phrase import Make, Phrase, from_list

_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_SIBLINGS = (
    ("哥哥", "older brother"),
    ("姐姐", "older sister"),
    ("弟弟", "younger brother"),
    ("妹妹", "younger sister"),
)
_SEASONS = (("春天", "spring"), ("夏天", "summer"), ("秋天", "autumn"), ("冬天", "winter"))
_MONTHS = (
    "January February March April May June July August September October November December"
).split()


def plain(zh: str, en: str, **forms: str) -> Phrase:
    """A phrase that does not inflect."""
    return Phrase({"zh": zh, "en": en, **forms})


def _even(phrases: list[Phrase]) -> Make:
    return from_list([(phrase, 1) for phrase in phrases])


def _number(value: int) -> tuple[str, str]:
    return chinese.number(value), english.number(value)


def _ages() -> list[Phrase]:
    words = [plain(f"{zh}岁", f"{en} years old") for zh, en in map(_number, range(2, 90))]
    words[0] = plain("两岁", "two years old")
    return [*words, *(plain(f"{age}岁", f"{age} years old") for age in range(2, 90))]


def _clock() -> list[Phrase]:
    times = []
    for hour in range(1, 13):
        zh, en = chinese.counted(hour), english.number(hour)
        times.append((plain(f"{zh}点", f"{en} o'clock"), 6))
        times.append((plain(f"{zh}点半", f"half past {en}"), 3))
        times.append((plain(f"{zh}点一刻", f"a quarter past {en}"), 1))
        for minute in (5, 10, 20, 25, 35, 40, 50, 55):
            spoken = ("零" if minute < 10 else "") + chinese.number(minute) + "分"
            times.append(
                (
                    plain(
                        f"{zh}点{spoken}",
                        f"{en} {'oh ' if minute < 10 else ''}{english.number(minute)}",
                    ),
                    1,
                )
            )
        for minute in (0, 5, 12, 20, 30, 48):
            times.append((plain(f"{hour}:{minute:02d}", f"{hour}:{minute:02d}"), 1))
    return [phrase for phrase, weight in times for _ in range(weight)]


def _hours() -> list[Phrase]:
    times = []
    for hour in range(5, 13):
        zh, en = chinese.counted(hour), english.number(hour)
        times += [plain(f"{zh}点", f"{en} o'clock")] * 2
        times.append(plain(f"{zh}点半", f"half past {en}"))
    return times


def _names(genders: str) -> list[tuple[Phrase, int]]:
    words = [word for word in table("names") if word.fields["gender"] in genders]
    # Family names with a title are how others call someone, not what someone is called.
    return [(plain(w.zh, w.en), w.weight) for w in words if len(w.en.split()) == 1]


def _prices() -> list[Phrase]:
    values = [*range(1, 21), *range(25, 100, 5), *range(100, 1000, 50), *range(1000, 10_000, 500)]
    spoken = [
        plain(
            f"{chinese.counted(value)}块钱" if value < 10 else f"{chinese.number(value)}块钱",
            f"{english.number(value)} yuan",
        )
        for value in values
    ]
    return spoken + [plain(f"{value}元", f"{value} yuan") for value in values]


def _dates() -> list[Phrase]:
    return [
        plain(
            f"{chinese.number(month)}月{chinese.number(day)}号",
            f"{_MONTHS[month - 1]} {english.ordinal(day)}",
        )
        for month in range(1, 13)
        for day in range(1, 32 if month in (1, 3, 5, 7, 8, 10, 12) else 31 if month != 2 else 30)
    ]


def _weekdays() -> list[Phrase]:
    return [plain(f"星期{zh}", en) for zh, en in zip("一二三四五六天", _WEEKDAYS, strict=True)]


def _counts(first: int, last: int) -> list[Phrase]:
    return [
        plain(chinese.counted(value), english.number(value)) for value in range(first, last + 1)
    ]


def _spans() -> list[Phrase]:
    spans = []
    for zh, en in (
        ("分钟", "minute"),
        ("个小时", "hour"),
        ("天", "day"),
        ("个星期", "week"),
        ("个月", "month"),
        ("年", "year"),
    ):
        values = (5, 10, 15, 20, 30, 40) if en == "minute" else range(2, 11)
        one = english.article(en) if en == "hour" else f"one {en}"
        if en != "minute":
            spans.append(plain(f"一{zh}", one))
        spans += [
            plain(f"{chinese.counted(value)}{zh}", f"{english.number(value)} {en}s")
            for value in values
        ]
    return spans


def _jobs() -> list[tuple[Phrase, int]]:
    words = with_class(table("people"), "job")
    return [
        (plain(w.zh, english.article(w.en), many=english.plural(w.en), bare=w.en), w.weight)
        for w in words
    ]


def _crowds(counted: bool = False) -> list[tuple[Phrase, int]]:
    """People without a number, or with one: students, three students."""
    phrases = []
    for word in with_class(table("people"), "role", "dem", "job"):
        many = english.plural(word.en)
        if not counted:
            phrases.append((plain(word.zh, many), word.weight))
            continue
        for count in range(2, 9):
            zh = f"{chinese.counted(count)}个{word.zh}"
            phrases.append((plain(zh, f"{english.number(count)} {many}"), word.weight))
    return phrases


def _place(word: Word, form: str) -> Phrase:
    en = word.fields[form]
    at = word.fields["at"]
    return plain(word.zh, en, at=at, to=word.fields["to"], **{"in": "in " + at.split(" ", 1)[1]})


def adjective(word: Word) -> Phrase:
    """An adjective with its comparative and superlative, where it has them."""
    degree = word.fields["degree"]
    more, most = ("", "") if degree == "-" else english.compared(word.en, degree == "+")
    if " " in degree or degree.endswith("er"):
        more, most = degree, degree.replace("better", "best")
    growing = f"more and {more}" if more.startswith("more ") else f"{more} and {more}"
    return plain(word.zh, word.en, more=more, most=most, growing=growing)


@cache
def adjective_kind(name: str) -> Make:
    """Adjectives for a class of nouns or people."""
    words = adjectives(name)
    return from_list([(adjective(word), word.weight) for word in words])


@cache
def compared_kind(name: str) -> Make:
    """Adjectives for a class that have a comparative."""
    words = [word for word in adjectives(name) if word.fields["degree"] != "-"]
    return from_list([(adjective(word), word.weight) for word in words])


@cache
def place_kind(name: str) -> Make:
    """Places of a class, with forms "at" and "to"."""
    return from_list(
        [(_place(word, "en"), word.weight) for word in with_class(table("places"), name)]
    )


@cache
def time_kind(name: str) -> Make:
    """Times of a class: past, future, habit, day ..."""
    return from_list(
        [(plain(word.zh, word.en), word.weight) for word in with_class(table("times"), name)]
    )


@cache
def spot_kind(name: str) -> Make:
    """Where a thing lies, by class."""
    return from_list(
        [(plain(word.zh, word.en), word.weight) for word in with_class(table("spots"), name)]
    )


def simple_kinds() -> dict[str, Make]:
    """The kinds without a class."""
    countries = table("countries")
    simple = {
        name: from_list([(plain(word.zh, word.en), word.weight) for word in table(name)])
        for name in ("adverbs", "colors", "school_subjects", "hobbies", "degrees")
    }
    simple |= {
        "side": from_list([(plain(w.zh, w.en), w.weight) for w in table("sides")]),
        "people": from_list(_crowds()),
        "several_people": from_list(_crowds(True)),
        "short_span": _even(
            [p for p in _spans() if "分钟" in p.forms["zh"] or "小时" in p.forms["zh"]]
        ),
    }
    simple |= {
        "sibling": _even([plain(zh, en) for zh, en in _SIBLINGS]),
        "season": _even([plain(zh, en) for zh, en in _SEASONS]),
        "transit": from_list(
            [
                (
                    plain(w.zh, w.fields["bare"].removeprefix("the ") or w.fields["singular"]),
                    w.weight,
                )
                for w in with_class(table("nouns"), "transit")
            ]
        ),
        "site": from_list(
            [
                (
                    plain(w.zh, english.article(w.fields["singular"]), bare=w.fields["singular"]),
                    w.weight,
                )
                for w in with_class(table("nouns"), "site")
            ]
        ),
        "degree": from_list(
            [(plain(w.zh, w.en), w.weight) for w in table("degrees") if "+" in w.classes]
        ),
        "age": _even(_ages()),
        "clock": _even(_clock()),
        "price": _even(_prices()),
        "date": _even(_dates()),
        "weekday": _even(_weekdays()),
        "month": _even(
            [plain(f"{chinese.number(i + 1)}月", month) for i, month in enumerate(_MONTHS)]
        ),
        "span": _even(_spans()),
        "count": _even(_counts(2, 12)),
        "job": from_list(_jobs()),
        "country": from_list([(plain(w.zh, w.en), w.weight) for w in countries]),
        "nationality": from_list(
            [(plain(w.zh + "人", w.fields["people"]), w.weight) for w in countries]
        ),
        "language": from_list(
            [
                (plain(w.fields["language_zh"], w.fields["language"]), w.weight)
                for w in countries
                if w.fields["language"]
            ]
        ),
        "ache": from_list(
            [(plain(w.zh + "疼", w.fields["ache"], part=w.en), w.weight) for w in table("health")]
        ),
        "name": from_list(_names("mf")),
        "name_m": from_list(_names("m")),
        "name_f": from_list(_names("f")),
        "hour": _even(_hours()),
    }
    return simple
