"""Attention over a sentence, by hand. Change the sentence, the query, the seed; then set OTHERS,
CAUSAL or LEARNED to True and see what moves.
"""

import numpy as np

SENTENCE, QUERY = "写代码的中年人", "年"
DIM, SEED = 4, 7
OTHERS = False  # leave out the query's own character
CAUSAL = False  # hide what comes later, as a decoder does
LEARNED = False  # compare through three matrices, as a real layer does (here: random ones)


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attention(query, key, value, mask=None):
    """query (T, D), key (S, D), value (S, D); mask (T, S) is True where one may look."""
    scores = query @ key.T
    if LEARNED:
        scores = scores / np.sqrt(query.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)  # on the scores, before softmax
    weights = softmax(scores)
    return weights @ value, weights


random = np.random.default_rng(SEED)
x = random.standard_normal((len(SENTENCE), DIM)).round(2)
query = key = value = x
if LEARNED:
    query, key, value = (x @ random.standard_normal((DIM, DIM)) for _ in range(3))

mask = np.ones((len(SENTENCE), len(SENTENCE)), bool)
if OTHERS:
    mask &= ~np.eye(len(SENTENCE), dtype=bool)
if CAUSAL:
    mask = np.tril(mask)

mixed, weights = attention(query, key, value, mask)
at = SENTENCE.index(QUERY)
for character, vector, weight in zip(SENTENCE, x, weights[at], strict=True):
    print(character, vector, f"{weight:6.1%}", "█" * round(40 * weight))
print("sum of the shares:", weights[at].sum().round(6))
print("vector of", QUERY, "before:", x[at])
print("vector of", QUERY, "after: ", mixed[at].round(3))
print("all characters at once:", x.shape, "->", mixed.shape)
