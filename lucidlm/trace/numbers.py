"""Numbers as they are written: in an equation, in a sentence, as JSON."""

from __future__ import annotations

import math

Number = float | int | bool | None  # as a site holds it; None: no random number was drawn


def digits(x: float) -> str:
    """Six significant digits."""
    return f"{x:.6g}"


def operand(x: float) -> str:
    """The same behind an operator: a negative number in parentheses."""
    return f"({digits(x)})" if x < 0 else digits(x)


def percent(share: float) -> str:
    """61.2 %; what is small keeps two digits, and what is not all of it is never 100 %."""
    value = 100 * share
    return f"{tenths(value)} %" if value >= 0.95 else f"{value:.2g} %"


def tenths(value: float) -> str:
    """One digit behind the point, or as many as it takes to tell what is below 100 from it."""
    written = (f"{value:.{places}f}" for places in range(1, 15))
    return next((w for w in written if value >= 100 or float(w) < 100), f"{value:.1f}")


def plain(x: Number) -> Number | str:
    """All of it for JSON, which has no infinities: these are strings."""
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def short(x: float | None) -> float | str | None:
    """Six significant digits for JSON: infinities as strings, None for what is no number."""
    if x is None or math.isnan(x):
        return None
    return float(digits(x)) if math.isfinite(x) else str(x)
