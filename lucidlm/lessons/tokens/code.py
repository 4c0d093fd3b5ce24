"""BPE from nothing: learn merges from a text, then cut a sentence with them. Change TEXT, SENTENCE
or how many merges are learned.
"""

from collections import Counter
from itertools import pairwise

TEXT = "世界上最高的山 世界上最长的河 最高的楼 最高的山峰 哪座山 哪座楼 山峰 山上"
SENTENCE = "世界上最高的山峰是哪座?"
MERGES = 12


def merge(pieces, pair):
    """Join every place where `pair` stands."""
    joined, at = [], 0
    while at < len(pieces):
        found = tuple(pieces[at : at + 2]) == pair
        joined.append("".join(pair) if found else pieces[at])
        at += 2 if found else 1
    return joined


words = [list(word) for word in TEXT.split()]
learned = []
for rank in range(MERGES):
    counts = Counter(pair for word in words for pair in pairwise(word))
    if not counts:
        break
    pair, count = counts.most_common(1)[0]
    print(f"merge {rank:2}: {pair[0]} + {pair[1]} -> {''.join(pair)}  (seen {count} times)")
    learned.append(pair)
    words = [merge(word, pair) for word in words]

pieces = list(SENTENCE)
for pair in learned:  # in the order they were learned
    pieces = merge(pieces, pair)
print(len(SENTENCE), "characters,", len(pieces), "pieces:", " | ".join(pieces))
