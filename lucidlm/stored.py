"""A parameter as its file holds it, for who reads blocks himself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Stored:
    """Rows of whole blocks in `format` ("F32", "BF16", "Q4_1", ...), of which row i of the
    parameter is row `order[i]` (None: i itself).
    """

    format: str
    data: NDArray[np.uint8]  # flat
    shape: tuple[int, ...]
    order: NDArray[np.int32] | None
