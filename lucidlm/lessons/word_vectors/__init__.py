"""Arithmetic with the vectors of words."""
