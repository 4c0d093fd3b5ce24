"""One attention head. New since the script of attention-by-hand: the words are compared through
three matrices. Change a word's vector, the mask, or a matrix, and see what moves.
"""

import numpy as np


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attention(query, key, value, mask):
    """query (T, D), key (S, D), value (S, D); mask (T, S) is True where one may look."""
    scores = query @ key.T / np.sqrt(query.shape[-1])
    scores = np.where(mask, scores, -np.inf)  # on the scores, before softmax
    weights = softmax(scores)
    return weights @ value, weights


def head(x, w):
    """x (T, D) asks with w["query"], is asked with w["key"], and gives w["value"]."""
    query = x @ w["query"].T + w["query bias"]
    key, value = x @ w["key"].T, x @ w["value"].T
    mask = np.tril(np.ones((len(x), len(x)), bool))  # nobody sees what comes later
    return attention(query, key, value, mask)


WORDS = ["<SOS>", "我", "很"]
x = np.array([[1, 0, 0], [0, 1, 0], [0.1, 0.2, 0.3]])
WANTED = [0.1, 0.3, 0.6]  # the last word's shares; its query is aimed at them
w = {
    "query": np.eye(3),
    "key": np.eye(3),
    "value": np.array([[0, -1, -1], [-1, 0, -1], [1, 1, 1]]),
    "query bias": np.linalg.solve(x, np.log(WANTED)) * np.sqrt(3) - x[-1],
}

mixed, weights = head(x, w)
for word, row, vector in zip(WORDS, weights, mixed):
    print(f"{word:6} looks at {row.round(4)} and becomes {vector.round(4)}")
