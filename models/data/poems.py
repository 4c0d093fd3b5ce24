"""Regular classical poems from chinese-poetry (the poems are in the public domain).

A poem is its lines, without punctuation; `as_printed` is the text of a row.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.data.holdout import allowed_text, is_held_out

Poem = tuple[str, ...]

LINE_LENGTHS = (5, 7)
LINE_COUNTS = (4, 6, 8, 10, 12, 14, 16)  # a quatrain, an octave, and others of couplets
SHORT_COUNTS = (4, 8)

_NOTE = re.compile(r"（[^（）]*）|\([^()]*\)|〖[^〖〗]*〗|〔[^〔〕]*〕|\[[^\[\]]*\]|〈[^〈〉]*〉")
_HAN = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]+")
_NAME = re.compile(r"poet\.(?:tang|song)\.(\d+)\.json")


@dataclass(frozen=True)
class Collection:
    """Poems without doubles: `known` (the Three Hundred), the other `tang` and `song` ones."""

    known: list[Poem]
    tang: list[Poem]
    song: list[Poem]


def collect(folder: Path, simplify: Callable[[str], str]) -> Collection:
    """The regular poems of an unpacked chinese-poetry, in simplified characters.

    Of two versions of a poem the one of the Three Hundred stays, which is the one people know,
    else the first. A poem with a character of less than five Tang poems is left out.
    """
    seen = _Versions()
    known = list(seen.new(_regular(_three_hundred(folder), simplify)))
    tang = list(seen.new(_regular(_dynasty(folder, "tang"), simplify)))
    found_in = Counter(character for poem in known + tang for character in set("".join(poem)))
    usual = {character for character, poems in found_in.items() if poems >= 5}
    song = seen.new(
        poem
        for poem in _regular(_dynasty(folder, "song"), simplify)
        if len(poem) in SHORT_COUNTS and usual.issuperset("".join(poem))
    )
    return Collection(
        known=known,
        tang=[poem for poem in tang if usual.issuperset("".join(poem))],
        song=list(song),
    )


def split(collection: Collection, share: float = 0.02) -> tuple[list[Poem], list[Poem]]:
    """The Tang poems to learn from, the Three Hundred among them, and about `share` held out.

    None of the lines of a held-out poem stands in any other, so two versions are on one side.
    """
    everything = collection.known + collection.tang + collection.song
    poems_with = Counter(line for poem in everything for line in set(poem))

    def held_out(poem: Poem) -> bool:
        alone = all(poems_with[line] == 1 for line in poem)
        return alone and is_held_out(as_printed(poem), share)

    train = [poem for poem in collection.tang if not held_out(poem)]
    return collection.known + train, list(filter(held_out, collection.tang))


def as_printed(poem: Poem) -> str:
    """A couplet a line: `床前明月光，疑是地上霜。`."""
    couplets = zip(poem[::2], poem[1::2], strict=True)
    return "\n".join(f"{first}，{second}。" for first, second in couplets)


def lines(paragraphs: Sequence[str]) -> Poem | None:
    """The lines of a regular poem: all of five or all of seven characters, as many as a form has.

    Notes in brackets and quotation marks are left out. None for any other poem: uneven ones, those
    with missing characters, and prose.
    """
    text, before = re.sub(r"\s", "", "".join(paragraphs)), ""
    while text != before:
        text, before = _NOTE.sub("", text), text
    parts = re.split(r"[，。！？；：、,.!?;]+", re.sub("[「」『』“”‘’《》]", "", text))
    if parts[-1] == "":
        parts.pop()
    even = len({len(part) for part in parts}) == 1 and all(map(_HAN.fullmatch, parts))
    if not even or len(parts[0]) not in LINE_LENGTHS or len(parts) not in LINE_COUNTS:
        return None
    return tuple(parts)


class _Versions:
    """Lets a poem through unless half of its lines stand in one that came before."""

    def __init__(self) -> None:
        self._poems_with: dict[str, list[int]] = {}
        self._count = 0

    def new(self, poems: Iterable[Poem]) -> Iterator[Poem]:
        for poem in poems:
            shared = Counter(
                number for line in set(poem) for number in self._poems_with.get(line, ())
            )
            if max(shared.values(), default=0) * 2 >= len(poem):
                continue
            for line in set(poem):
                self._poems_with.setdefault(line, []).append(self._count)
            self._count += 1
            yield poem


def _regular(poems: Iterable[Sequence[str]], simplify: Callable[[str], str]) -> Iterator[Poem]:
    for paragraphs in poems:
        poem = lines(paragraphs)
        if poem is not None and allowed_text("".join(poem)):
            yield tuple(map(simplify, poem))


def _dynasty(folder: Path, dynasty: str) -> Iterator[Sequence[str]]:
    """The paragraphs of each poem, in the collection's order."""
    paths = (folder / "quantangshi").glob(f"poet.{dynasty}.*.json")
    for path in sorted(paths, key=_volume):
        for poem in _json(path):
            yield poem["paragraphs"]


def _volume(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _three_hundred(folder: Path) -> Iterator[Sequence[str]]:
    for form in _json(folder / "mengxue" / "tangshisanbaishou.json")["content"]:
        for poem in form["content"]:
            yield poem["paragraphs"]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
