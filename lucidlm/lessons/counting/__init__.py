"""The dog language: the next word by counting, and by attention."""

ORDER = 110
