"""English inflection: regular rules, and the irregular words that the lexicon uses."""

from functools import cache

_VERBS = {  # base: (past, participle)
    "be": ("was", "been"),
    "become": ("became", "become"),
    "break": ("broke", "broken"),
    "bring": ("brought", "brought"),
    "build": ("built", "built"),
    "buy": ("bought", "bought"),
    "catch": ("caught", "caught"),
    "choose": ("chose", "chosen"),
    "come": ("came", "come"),
    "cut": ("cut", "cut"),
    "do": ("did", "done"),
    "draw": ("drew", "drawn"),
    "drink": ("drank", "drunk"),
    "drive": ("drove", "driven"),
    "eat": ("ate", "eaten"),
    "fall": ("fell", "fallen"),
    "feed": ("fed", "fed"),
    "feel": ("felt", "felt"),
    "fight": ("fought", "fought"),
    "find": ("found", "found"),
    "forget": ("forgot", "forgotten"),
    "get": ("got", "gotten"),
    "give": ("gave", "given"),
    "go": ("went", "gone"),
    "grow": ("grew", "grown"),
    "have": ("had", "had"),
    "hear": ("heard", "heard"),
    "hit": ("hit", "hit"),
    "hold": ("held", "held"),
    "hurt": ("hurt", "hurt"),
    "keep": ("kept", "kept"),
    "know": ("knew", "known"),
    "leave": ("left", "left"),
    "lend": ("lent", "lent"),
    "let": ("let", "let"),
    "lose": ("lost", "lost"),
    "make": ("made", "made"),
    "meet": ("met", "met"),
    "pay": ("paid", "paid"),
    "put": ("put", "put"),
    "read": ("read", "read"),
    "ride": ("rode", "ridden"),
    "run": ("ran", "run"),
    "say": ("said", "said"),
    "see": ("saw", "seen"),
    "sell": ("sold", "sold"),
    "send": ("sent", "sent"),
    "sing": ("sang", "sung"),
    "sit": ("sat", "sat"),
    "sleep": ("slept", "slept"),
    "speak": ("spoke", "spoken"),
    "spend": ("spent", "spent"),
    "stand": ("stood", "stood"),
    "steal": ("stole", "stolen"),
    "swim": ("swam", "swum"),
    "take": ("took", "taken"),
    "teach": ("taught", "taught"),
    "tell": ("told", "told"),
    "think": ("thought", "thought"),
    "understand": ("understood", "understood"),
    "wake": ("woke", "woken"),
    "wear": ("wore", "worn"),
    "win": ("won", "won"),
    "write": ("wrote", "written"),
}
_DOUBLED = frozenset(
    "chat clap dig drop get hit hug jog let plan put run shop sit skip stop swim win "
    "hot big fat thin sad red".split()
)
_PLURALS = {
    "child": "children",
    "man": "men",
    "person": "people",
    "woman": "women",
    "businessman": "businessmen",
    "tooth": "teeth",
    "foot": "feet",
    "wife": "wives",
}
_COMPARED = {"good": ("better", "best"), "well": ("better", "best"), "bad": ("worse", "worst")}
_VOWELS = "aeiou"


def _ends_consonant_y(word: str) -> bool:
    return len(word) > 1 and word[-1] == "y" and word[-2] not in _VOWELS


def _suffixed(word: str, suffix: str) -> str:
    """`word` with "ed" or "er" or "est": stop -> stopped, carry -> carried, nice -> nicer."""
    if word in _DOUBLED:
        return word + word[-1] + suffix
    if _ends_consonant_y(word):
        return word[:-1] + "i" + suffix
    return word + suffix[1:] if word.endswith("e") else word + suffix


def _split(phrase: str) -> tuple[str, str]:
    head, space, tail = phrase.partition(" ")
    return head, space + tail


def article(phrase: str) -> str:
    """The phrase with "a" or "an" before it, by its first sound."""
    word = phrase.split(" ", 1)[0].lower()
    silent = word.startswith(("hour", "honest", "honor"))
    glide = word.startswith(("uni", "use", "eu", "one"))
    vowel = silent or (word[0] in _VOWELS and not glide)
    return f"an {phrase}" if vowel else f"a {phrase}"


@cache
def plural(noun: str) -> str:
    """Plural of a noun phrase whose last word is its head: "tour guide" -> "tour guides"."""
    before, space, word = noun.rpartition(" ")
    if word in _PLURALS:
        end = _PLURALS[word]
    elif _ends_consonant_y(word):
        end = word[:-1] + "ies"
    elif word.endswith(("s", "x", "ch", "sh")):
        end = word + "es"
    elif word.endswith(("ato", "ero")):
        end = word + "es"
    elif word.endswith("fe"):
        end = word[:-2] + "ves"
    else:
        end = word + "s"
    return before + space + end


@cache
def verb_forms(base: str) -> dict[str, str]:
    """Forms of a verb phrase that its first word carries: en (= base), s, past, ing, pp."""
    head, tail = _split(base)
    if head == "be":
        return {
            "en": base,
            "base": base,
            "s": "is" + tail,
            "past": "was" + tail,
            "ing": "being" + tail,
            "pp": "been" + tail,
        }
    if head == "have":
        third = "has"
    elif _ends_consonant_y(head):
        third = head[:-1] + "ies"
    elif head.endswith(("s", "x", "ch", "sh", "o", "z")):
        third = head + "es"
    else:
        third = head + "s"
    past, participle = _VERBS.get(head, (_suffixed(head, "ed"),) * 2)
    if head in _DOUBLED:
        ing = head + head[-1] + "ing"
    elif head.endswith("e") and not head.endswith(("ee", "ye", "oe")):
        ing = head[:-1] + "ing"
    else:
        ing = head + "ing"
    forms = {"base": head, "s": third, "past": past, "ing": ing, "pp": participle}
    return {"en": base} | {name: form + tail for name, form in forms.items()}


def compared(adjective: str, short: bool) -> tuple[str, str]:
    """Comparative and superlative; `short` words take -er and -est, the others more and most."""
    if adjective in _COMPARED:
        return _COMPARED[adjective]
    if not short:
        return f"more {adjective}", f"most {adjective}"
    return _suffixed(adjective, "er"), _suffixed(adjective, "est")


_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()


def number(value: int) -> str:
    """0 to 9999 in words, without "and": "two hundred five"."""
    assert 0 <= value < 10_000
    if value < 20:
        return _UNITS[value]
    if value < 100:
        tens, unit = divmod(value, 10)
        return _TENS[tens] + (f"-{_UNITS[unit]}" if unit else "")
    size, name = (1000, "thousand") if value >= 1000 else (100, "hundred")
    high, rest = divmod(value, size)
    return f"{number(high)} {name}" + (f" {number(rest)}" if rest else "")


_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def ordinal(value: int) -> str:
    """1 to 99 as an ordinal in words: "twenty-first"."""
    before, dash, last = number(value).rpartition("-")
    end = _ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return before + dash + end
