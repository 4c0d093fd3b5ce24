"""The kinds of phrases that have no class, by name."""

from functools import cache

from models.everyday.kinds import people_kinds
from models.everyday.phrase import Make
from models.everyday.places import simple_kinds
from models.everyday.verbs import verb_kinds


@cache
def simple() -> dict[str, Make]:
    """Kinds by name: who, event, clock ..."""
    return simple_kinds() | people_kinds() | verb_kinds()
