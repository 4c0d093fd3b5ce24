"""What one step reads: NumPy arrays of one fixed shape, so that a step is compiled once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
NO_LOSS = -100  # a target that is not learnt
PADDING = -1  # the document of a position that belongs to none


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """`B` lines of `T` tokens, each holding one or more documents beside each other.

    `documents` numbers them in their line, `positions` count from 0 in each. A document sees
    itself alone. With an encoder, `source` holds what it reads, packed alike: the document that
    `source_documents` numbers k is what the decoder's document k looks at. Without a decoder the
    ids are the encoder's and targets stand only where a token was hidden.
    """

    ids: Ints  # (B, T)
    targets: Ints  # (B, T), the token to be guessed at each place, or NO_LOSS
    positions: Ints  # (B, T)
    documents: Ints  # (B, T), or PADDING
    source: Ints | None = None  # (B, S)
    source_positions: Ints | None = None
    source_documents: Ints | None = None

    @property
    def tokens(self) -> int:
        """Tokens that are real, sources included: what throughput counts."""
        here = int((self.documents != PADDING).sum())
        there = (
            0 if self.source_documents is None else int((self.source_documents != PADDING).sum())
        )
        return here + there
