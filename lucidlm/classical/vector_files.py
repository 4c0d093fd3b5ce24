"""Word vectors on disk: words.txt with vectors.npy, and the text forms of GloVe and word2vec."""

from __future__ import annotations

import tokenize
from array import array
from pathlib import Path

import numpy as np

from lucidlm.engine import Floats
from lucidlm.errors import CheckpointError

LONGEST_LINE = 1 << 20  # bytes
# what NumPy raises on a file that is none of its own, or a header that lies or is not Python
NOT_NPY = (
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
)


def read(path: Path) -> tuple[list[str], Floats]:
    """The words and their vectors (words, dim) float32, memory-mapped where the format allows.

    Raises CheckpointError when there are none, the file is damaged, or the two numbers differ.
    """
    try:
        if (path / "words.txt").is_file() and (path / "vectors.npy").is_file():
            return _folder(path)
        if path.is_file():
            return _text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError("classical.bad_vectors", path=path, reason=error) from None
    raise CheckpointError("classical.no_vectors", path=path)


def _folder(path: Path) -> tuple[list[str], Floats]:
    """words.txt has one word a line, ended by a line feed: any other character may be in a word."""
    words = (path / "words.txt").read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    vectors = _npy(path / "vectors.npy")
    if len(words) != len(vectors):
        found = {"words": len(words), "vectors": len(vectors)}
        raise CheckpointError("classical.vectors_count", path=path, **found)
    return words, vectors


def _npy(path: Path) -> Floats:
    """The table in a .npy file, mapped: objects, which would be pickled, are refused by NumPy."""
    try:
        table = np.lib.format.open_memmap(path, mode="r")
    except NOT_NPY as error:
        raise CheckpointError("classical.bad_vectors", path=path, reason=error) from None
    if table.ndim != 2 or table.dtype != np.float32:
        found = f"{table.dtype} {table.shape}"
        raise CheckpointError("classical.vectors_shape", path=path, found=found)
    return table


def _text(path: Path) -> tuple[list[str], Floats]:
    """A word and its numbers on each line; word2vec says before how many there are, how long."""
    words: list[str] = []
    numbers = array("f")
    with path.open("rb") as file:
        header = _header(file.readline(LONGEST_LINE))
        if header is None:
            file.seek(0)
            dim = len(file.readline(LONGEST_LINE).split()) - 1
            file.seek(0)
        else:
            dim = header[1]
        if dim < 1:
            raise CheckpointError("classical.no_vectors", path=path)
        while line := file.readline(LONGEST_LINE):
            word, *cells = line.rstrip().rsplit(b" ", dim)  # a word may hold spaces
            try:
                numbers.extend(map(float, cells))
            except ValueError:
                cells = []
            if len(cells) != dim:
                at = len(words) + 1 + (header is not None)
                raise CheckpointError("classical.vectors_line", path=path, line=at, dim=dim)
            words.append(word.decode("utf-8"))
    if header is not None and header[0] != len(words):
        found = {"words": header[0], "vectors": len(words)}
        raise CheckpointError("classical.vectors_count", path=path, **found)
    return words, np.frombuffer(numbers, np.float32).reshape(-1, dim)


def _header(line: bytes) -> tuple[int, int] | None:
    """word2vec's (words, dim); None where the first line is a vector already."""
    cells = line.split()
    if len(cells) != 2 or not all(cell.isdigit() and len(cell) < 12 for cell in cells):
        return None
    return int(cells[0]), int(cells[1])
