"""Chinese-English sentences of LibreOffice's help (MPL-2.0), aligned by paragraph identifiers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from models.data.holdout import allowed_pair
from models.data.hsk import Pair

LONGEST = 60  # Chinese characters of a sentence

_PARAGRAPH = re.compile(r'<(p|h[1-6])[^>]*\bid="((?:par|hd)_id[^"]+)"[^>]*>(.*?)</\1>', re.DOTALL)
_HAN = re.compile(r"[\u3400-\u9fff]")
_NUMBER = re.compile(r"\d+")
_PLAIN_CHINESE = re.compile(r"[\u3400-\u9fff0-9，、。？！；]+")
_PLAIN_ENGLISH = re.compile(r"[A-Za-z0-9 ,.?!;'-]+")


def pairs(chinese: Path, english: Path) -> list[Pair]:
    """Sentences of both folders of help pages that are plain on both sides, each Chinese one once.

    Paragraphs are the same where page and identifier are; sentences where a paragraph has equally
    many. Kept are whole sentences without names of keys, menus or files.
    """
    found: dict[str, Pair] = {}
    for page in sorted(chinese.rglob("*.html")):
        other = english / page.relative_to(chinese)
        if other.is_file():
            theirs = dict(_paragraphs(other))
            for identifier, text in _paragraphs(page):
                for pair in _sentences(text, theirs.get(identifier, "")):
                    found.setdefault(pair.source, pair)
    return [pair for pair in found.values() if _is_plain(pair)]


def _paragraphs(page: Path) -> Iterator[tuple[str, str]]:
    """Identifier and text of each paragraph and heading of a help page."""
    for _, identifier, content in _PARAGRAPH.findall(page.read_text(encoding="utf-8")):
        text = html.unescape(re.sub(r"<[^>]+>", "", content))
        yield identifier, " ".join(text.split())


def _sentences(chinese: str, english: str) -> Iterator[Pair]:
    sources = re.findall(r"[^。？！]+[。？！]", re.sub("[「」“”]", "", chinese))
    targets = re.findall(r"\S.*?[.?!](?=\s+[A-Z]|$)", english.replace("’", "'"))
    if len(sources) == len(targets):
        yield from map(Pair, (source.strip() for source in sources), targets)


def _is_plain(pair: Pair) -> bool:
    """Nothing but words, of a likely length for each other, with the same numbers."""
    source, target = pair.source, pair.target
    han, spoken = len(_HAN.findall(source)), len(target.split())
    return (
        4 <= han <= LONGEST
        and 0.3 <= spoken / han <= 1.2
        and _PLAIN_CHINESE.fullmatch(source) is not None
        and _PLAIN_ENGLISH.fullmatch(target) is not None
        and target[0].isupper()
        and allowed_pair(source, target)
        and sorted(_NUMBER.findall(source)) == sorted(_NUMBER.findall(target))
    )
