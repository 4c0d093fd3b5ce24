"""What is said of one function: plain data, which travels from the process that calls it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lucidlm.lessons.checking.functions import FUNCTIONS
from lucidlm.locale import text

Status = Literal[
    "right",
    "wrong",  # a cell differs
    "nan",  # a cell is not a number
    "shape",
    "type",  # no array and no number
    "dtype",
    "mutated",  # an argument was written into
    "raised",
    "endless",  # no answer within the time limit
    "ended",  # the whole process ended
    "unwritten",  # raised NotImplementedError
]
FINE = ("right", "unwritten")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one function did, and the first of its calls that went wrong: `call` is how it was
    called, `case` what is special about that, `site` where a real input comes from.
    """

    function: str
    status: Status
    calls: int = 0
    call: str | None = None
    case: str | None = None
    site: str | None = None
    cell: Sequence[int] | None = None  # the first wrong one, and the two numbers there
    expected: float | None = None
    found: float | None = None
    wrong: int = 0  # cells, of `cells`
    cells: int = 0
    expected_shape: Sequence[int] | None = None
    found_shape: Sequence[int] | None = None
    detail: str | None = None  # last line of an exception, a type, or an argument's name
    line: int | None = None  # in the reader's file
    causes: Sequence[str] = ()  # mistakes that make just these numbers

    @property
    def is_fine(self) -> bool:
        return self.status in FINE

    @property
    def gives_id(self) -> bool:
        """Whether the function chooses an id."""
        return FUNCTIONS[self.function].gives_id

    def to_json(self, lang: str) -> dict[str, Any]:
        """Plain values; numbers that are not finite as "nan", "inf" and "-inf"."""
        causes = [
            {"name": name, "text": text(f"check.mistake_{name}", lang)} for name in self.causes
        ]
        numbers = {name: _plain(getattr(self, name)) for name in ("expected", "found")}
        return asdict(self) | numbers | {"causes": causes}


@dataclass(frozen=True)
class Report:
    """What is said of a file. `library` is what its functions were given."""

    file: str
    library: Literal["numpy", "torch"]
    verdicts: tuple[Verdict, ...]

    @property
    def is_fine(self) -> bool:
        return all(verdict.is_fine for verdict in self.verdicts)

    def to_json(self, lang: str) -> dict[str, Any]:
        functions = [verdict.to_json(lang) for verdict in self.verdicts]
        return {
            "file": self.file,
            "library": self.library,
            "right": self.is_fine,
            "functions": functions,
        }


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
