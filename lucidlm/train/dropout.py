"""Dropout (Srivastava et al. 2014) as a tracer: it replaces the values that it is shown.

At the places of Vaswani et al. 2017: the sum of embeddings, the attention pattern, and what each
sublayer gives to the residual stream. The model knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

SUBLAYERS = (".attention", ".cross_attention", ".feedforward")


@dataclass(frozen=True)
class Dropout:
    """Zero a value's entries with probability `rate` and scale the others by 1 / (1 - rate)."""

    rate: float

    def __call__(self, path: str, name: str, value: Tensor) -> Tensor:
        output = name == "output" and path.endswith(SUBLAYERS)
        if output or name == "pattern" or (name == "sum" and path.endswith("embedding")):
            return functional.dropout(value, self.rate)
        return value
