"""The reader of words against pyarrow, which writes such files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucidlm.checkpoint.catalogue import find
from lucidlm.checkpoint.glove import convert_words, read_words
from lucidlm.errors import PullError


@pytest.mark.checkpoint("glove-6b-50d")
def test_pulled_words_belong_to_their_vectors() -> None:
    folder = find("glove-6b-50d").folder
    words = (folder / "words.txt").read_text(encoding="utf-8").split("\n")[:-1]
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    assert vectors.shape == (len(set(words)), 50) == (400_000, 50)
    assert words[:5] == ["the", ",", ".", "of", "to"]


WORDS = (
    [f"word{i % 700}" for i in range(3000)]
    + ["", "好", "ab" * 3000]
    + [str(i) for i in range(5000)]
)
STYLES: dict[str, dict[str, Any]] = {
    "as pandas writes": {},
    "plain": {"use_dictionary": False},
    "uncompressed": {"compression": "NONE"},
    "version 2 pages": {"data_page_version": "2.0"},
    "version 2 plain": {"data_page_version": "2.0", "use_dictionary": False, "compression": "NONE"},
    "small pages": {"data_page_size": 500, "dictionary_pagesize_limit": 2000},
    "row groups": {"row_group_size": 1234},
}


def parquet(path: Path, columns: dict[str, list[Any]], **options: Any) -> Path:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(arrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize("style", STYLES)
def test_words_are_read_as_pyarrow_writes_them(style: str, tmp_path: Path) -> None:
    path = parquet(tmp_path / "words.parquet", {"index": WORDS}, **STYLES[style])
    assert read_words(path) == WORDS
    convert_words(path)
    assert path.read_text(encoding="utf-8").split("\n") == [*WORDS, ""]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"index": ["a", None]}, {}),
        ({"index": ["a", None]}, {"data_page_version": "2.0"}),
        ({"index": ["a"], "other": ["b"]}, {}),
        ({"index": [1, 2]}, {}),
        ({"index": ["a"]}, {"compression": "GZIP"}),
        ({"index": [b"\xff"]}, {}),
        ({"index": ["a\nb"]}, {}),
    ],
)
def test_other_parquet_files_are_refused(
    columns: dict[str, list[Any]], options: dict[str, Any], tmp_path: Path
) -> None:
    path = parquet(tmp_path / "words.parquet", columns, **options)
    before = path.read_bytes()
    with pytest.raises(PullError) as error:
        convert_words(path)
    assert error.value.key == "pull.bad_parquet" and str(path) in str(error.value)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_damaged_words_are_read_or_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "words.parquet", {"index": WORDS[2990:3200]}, data_page_size=300)
    content = path.read_bytes()
    draw = random.Random(7)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged[: draw.choice((len(damaged), draw.randrange(len(damaged))))])
        try:
            read_words(path)
        except PullError:
            refused += 1
    assert 250 < refused < 500
