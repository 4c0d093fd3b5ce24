"""Numbers in an expression: short, and never more than a few of them."""

from __future__ import annotations

FEW = 4  # terms that are written out


def number(value: float) -> str:
    """Six digits; a negative one stands well behind an operator."""
    return f"{value:.6g}" if not value < 0 else f"({value:.6g})"
