"""Arithmetic with the vectors of words."""

ORDER = 70
