"""Builders of the rows that the shipped models learn from."""
