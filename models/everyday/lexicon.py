"""The words of the everyday world: tab-separated tables in `lexicon/`, written for this project."""

from collections.abc import Sequence
from functools import cache
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")
FOLDER = Path(__file__).parent / "lexicon"


class Word(NamedTuple):
    """One row of a table. `weight` is how often it is drawn, in relation to the table's others."""

    zh: str
    en: str
    fields: dict[str, str]
    classes: frozenset[str]
    weight: int


@cache
def table(name: str) -> tuple[Word, ...]:
    """The rows of `lexicon/NAME.tsv`, whose first line names the columns."""
    lines = (FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    columns = lines[0].split("\t")
    words = []
    for line in lines[1:]:
        fields = dict(zip(columns, line.split("\t"), strict=True))
        classes = fields.get("classes", "") + " " + fields.get("flags", "")
        words.append(
            Word(
                fields["zh"],
                fields.get("en", ""),
                fields,
                frozenset(classes.split()),
                int(fields["weight"]),
            )
        )
    return tuple(words)


def names() -> list[str]:
    """Every table."""
    return sorted(path.stem for path in FOLDER.glob("*.tsv"))


def with_class(words: Sequence[Word], *classes: str) -> list[Word]:
    """The words of at least one of the classes; all of them where none is given."""
    return [word for word in words if not classes or word.classes.intersection(classes)]


def weighted(items: Sequence[tuple[T, int]]) -> list[T]:
    """Each item as often as its weight says: an even draw from the list is a weighted one."""
    return list(chain.from_iterable(repeat(item, weight) for item, weight in items))
