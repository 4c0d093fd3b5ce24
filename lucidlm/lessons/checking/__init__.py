"""A reader's own functions on real inputs. `run.check` runs a file in a process (`child`), which
calls each function with the `cases` and compares it with the recipe of that name
(`attention`, `blocks`, `positions`, `choosing`); `mistakes` finds the cause of what is wrong, by
making the mistake.
"""
