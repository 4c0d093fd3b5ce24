"""The glass: what happened in one run, every number of it, where it came from, and what an edit
would change.
"""
