"""Fetches and writes the rows that the shipped models learn from: `make data`.

`python -m models.data.prepare [MODEL...]` writes `build/data/MODEL/*.jsonl`, for every model
where none is named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from models.data import hsk, mixes, poems
from models.data.cloze import write_cloze
from models.data.fetch import ROOT, FetchError, fetch
from models.data.rows import write_rows
from models.data.simplified import load_simplifier
from models.everyday import grammar

OUT = ROOT / "build" / "data"
GRAMMAR = 200_000  # sentences of the project's grammar for cloze-zh
GRAMMAR_SEED = 11
SENTENCES = ROOT / "models" / "everyday" / "sentences"

Written = Mapping[str, int]  # rows of each file


def poet(folder: Path) -> Written:
    """Regular Tang poems, and those of the Song dynasty as more of the same kind."""
    simplify = load_simplifier(fetch("opencc-python-reimplemented"))
    collection = poems.collect(fetch("chinese-poetry"), simplify)
    train, held_out = poems.split(collection)
    files = {"train": train, "held_out": held_out, "song": collection.song}
    return {
        name: write_rows(folder / f"{name}.jsonl", ({"text": poems.as_printed(p)} for p in found))
        for name, found in files.items()
    }


def cloze_zh(folder: Path) -> Written:
    """Chinese sentences: graded ones, the project's own, and those of its grammar."""
    graded, aside = hsk.split(hsk.pairs(fetch("hsk-sentences-audio") / "sentences.json"))
    return write_cloze(
        folder,
        natural=[pair.source for pair in graded] + everyday_sentences(),
        grammar=(chinese for chinese, _ in grammar.pairs(GRAMMAR_SEED, GRAMMAR, unpunctuated=0.2)),
        held_out=[pair.source for pair in aside],
    )


def everyday_sentences() -> list[str]:
    """The Chinese sides of the pairs that were written for the project."""
    files = sorted(SENTENCES.glob("*.tsv"))
    rows = (line for path in files for line in path.read_text(encoding="utf-8").splitlines())
    return [row.split("\t")[0] for row in rows if row]


MODELS: dict[str, Callable[[Path], Written]] = {
    "mini": mixes.mini,
    "translate-zh-en": mixes.translate_zh_en,
    "poet": poet,
    "cloze-zh": cloze_zh,
}


def prepare(name: str) -> Written:
    """Write the files of the model `name`, and return how many rows each has.

    Raises FetchError, with what to do, where a package cannot be had.
    """
    return MODELS[name](OUT / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; all by default")
    names: list[str] = parser.parse_args().models or list(MODELS)
    unknown = sorted(set(names) - set(MODELS))
    if unknown:
        parser.error(f"There is no model {', '.join(unknown)}; there are {', '.join(MODELS)}.")
    for name in names:
        try:
            written = prepare(name)
        except FetchError as error:
            sys.exit(f"The data of {name} cannot be made. {error}")
        print(name, ", ".join(f"{file}: {rows:,} rows" for file, rows in written.items()))


if __name__ == "__main__":
    main()
