"""A decoder writes: it reads everything so far, writes one word, and reads again. Change NEXT to
teach it another sentence, or START to give it other words.
"""

import numpy as np

START = ["我", "爱", "你"]
NEXT = {"我": "i", "爱": "love", "你": "you", "i": ".", "love": "</s>"}  # found -> written
BACK = 2  # the last word looks this many places to its left
SHARP, SURE = 20.0, 6.0

words = list(dict.fromkeys([*NEXT, *NEXT.values()]))
table = np.zeros((len(words), len(words)))
for found, written in NEXT.items():
    table[words.index(found), words.index(written)] = SURE


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def decoder(text):
    """Probabilities of the next word, (words,), and what the last word looked at."""
    n = len(text)
    word = np.eye(len(words))[[words.index(each) for each in text]]  # (N, words)
    place = np.eye(n)  # (N, N)
    x = np.hstack([word, place])  # N x M: the dynamic matrix
    query = SHARP * np.sqrt(n) * np.eye(n, k=-BACK)  # row p asks for place p - BACK
    key, value = place, word
    scores = query @ key.T / np.sqrt(n)
    scores[np.triu_indices(n, k=1)] = -np.inf  # nobody sees what comes later
    weights = softmax(scores)
    mixed = weights @ value  # every visible word's value, by its weight
    return softmax(mixed[-1] @ table), weights[-1], x.shape


text = list(START)
while text[-1] != "</s>" and len(text) < 12:
    probabilities, weights, shape = decoder(text)
    looked_at = text[int(weights.argmax())]
    following = words[int(probabilities.argmax())]
    print(f"{' '.join(text):24} N x M = {shape}  looks at {looked_at:5} writes {following}")
    text.append(following)
