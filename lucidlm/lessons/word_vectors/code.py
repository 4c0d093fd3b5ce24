"""Arithmetic with words set by hand. Add words, move them, and ask other sums. With
`lucidlm pull glove-6b-50d`, the second part asks real vectors.
"""

import numpy as np

from lucidlm import LucidError, WordVectors

WORDS = {  # royal, female, human
    "king": (0.9, 0.1, 0.8),
    "queen": (0.9, 0.9, 0.8),
    "man": (0.1, 0.1, 0.9),
    "woman": (0.1, 0.9, 0.9),
    "dog": (0.0, 0.4, 0.1),
}
SUM = "king - man + woman"


def show(vectors):
    found = vectors.analogy(SUM, 5)
    for name, words in (("all words", found.nearest), ("without", found.nearest_others)):
        print(f"{name:10}", ", ".join(f"{n.word} {n.similarity:.3f}" for n in words))


print(SUM)
show(WordVectors(tuple(WORDS), np.array(list(WORDS.values()), np.float32)))

try:
    from lucidlm.home import models_home

    show(WordVectors.load(models_home() / "glove-6b-50d"))
except LucidError as missing:
    print(missing)
