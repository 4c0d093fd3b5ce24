"""Three structures from the same blocks."""

ORDER = 100
