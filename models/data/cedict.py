"""Words with a plain gloss from CC-CEDICT (CC-BY-SA-4.0, published by MDBG)."""

from __future__ import annotations

import re
from pathlib import Path

SHORTEST_WORD, LONGEST_WORD = 2, 5
LONGEST_GLOSS = 40

_ENTRY = re.compile(r"(?P<traditional>\S+) (?P<word>\S+) \[(?P<pinyin>[^\]]*)\] /(?P<senses>.*)/")
_HAN = re.compile(r"[\u3400-\u9fff]+")
# senses that say what a word is instead of what it means
_NO_MEANING = re.compile(
    r"\b(variant of|surname|see( also)?|abbr\.|used in|CL:|old form|Taiwan pr\.|"
    r"classifier|measure word|particle|suffix|prefix|radical|transliteration|"
    r"phonetic|erhua|also written|also pr\.|same as|idiom for|name of)"
    # and those that nobody needs to learn
    r"|\((vulgar|derog|slang|offensive|pejorative|Internet slang|dialect|archaic|old\))"
    r"|fuck|\bshit|whore|prostitut|brothel|penis|vagina|obscen|orgasm|sexual",
    re.IGNORECASE,
)
_SHORT = {"sb": "somebody", "sth": "something", "sb's": "somebody's", "esp.": "especially"}


def words(path: Path, characters: frozenset[str] | None = None) -> dict[str, str]:
    """Simplified word -> its first plain gloss, in the dictionary's order.

    Words have two to five Chinese characters, all of them among `characters` if these are given;
    the first sense of a single one is too often a rare one. A word's common reading goes before
    its proper name, which has capitals in its pinyin.
    """
    common: dict[str, str] = {}
    names: dict[str, str] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            entry = _ENTRY.match(line)
            if entry is None:
                continue
            word = entry["word"]
            if not SHORTEST_WORD <= len(word) <= LONGEST_WORD or not _HAN.fullmatch(word):
                continue
            if characters is not None and not characters.issuperset(word):
                continue
            glosses = map(plain_gloss, entry["senses"].split("/"))
            first = next((gloss for gloss in glosses if gloss), None)
            if first is not None and entry["pinyin"][:1].isupper():
                names.setdefault(word, first.partition(",")[0])  # "Prague, capital of ..."
            elif first is not None:
                common.setdefault(word, first)
    return names | common


def plain_gloss(sense: str) -> str | None:
    """The first meaning in a sense of the dictionary, without notes; None where there is none."""
    if _NO_MEANING.search(sense):
        return None
    text = re.sub(r"\s*[(\[（][^)\]）]*[)\]）]", "", sense)
    text = text.split(";")[0].replace("’", "'").replace("“", '"').replace("”", '"')
    text = " ".join(_SHORT.get(word, word) for word in text.split()).strip(" ,.:")
    if not text.isascii() or not re.search(r"[A-Za-z]{2}|^[aI]$", text):
        return None
    if len(text) > LONGEST_GLOSS or re.search(r"[^A-Za-z0-9 ,.'!?/&-]", text):
        return None
    return text
