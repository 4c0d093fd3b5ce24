"""A whole decoder that writes 我很开心. New since the script of one-layer: words become vectors,
vectors become words, and the loop. Change START, the logits, or how the word is chosen.
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


def layer_norm(x, bias=0):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True)) + bias


def layer(x, w):
    """x (T, D) -> (T, D), as in 2017: the norm comes after the sum."""
    mixed, _ = head(x, w)
    x = layer_norm(x + mixed + w["output bias"], w["norm bias"])
    hidden = np.maximum(x @ w["up"].T + w["up bias"], 0)  # ReLU
    return layer_norm(x + hidden @ w["down"].T + w["down bias"], w["last norm bias"])


def decoder(ids, w):
    """ids (T,) -> logits (T, words): of what comes after each."""
    x = TOKENS[ids] + PLACES[: len(ids)]
    return layer(x, w) @ w["head"].T + w["head bias"]


def aimed(x):
    """Small whole numbers, and biases that lead the last word through the article's figures."""
    w = {
        "query": np.eye(3),
        "key": np.eye(3),
        "value": np.array([[0, -1, -1], [-1, 0, -1], [1, 1, 1]]),
        "up": np.array([[0, 1, 1], [-1, 1, 0], [1, 0, -1], [-1, -1, 1], [1, 1, -1], [0, 1, 1]]),
        "down": np.array([[-1, 1, 1, 1, 0, -1], [0, -1, -1, 1, 1, -1], [1, -1, -1, -1, -1, 1]]),
        "head": np.array([[0, 0, 0], [3, -1, -2], [-3, 1, 2], [1, -3, 1], [-1, 3, -2]]),
    }
    shares = np.array([0.1, 0.3, 0.6])
    output, norm = np.array([0.8, 1.2, 0.4]), np.array([0, 1, -0.5])
    hidden, down = np.array([0.5, -0.2, 1.8, 0.1, -1, 0.9]), np.array([1.5, 0.2, 2])
    last, logits = np.array([0.8, 0.1, 1.5]), np.array([-0.2, 1, 0.5, 3, -1])
    w["query bias"] = np.linalg.solve(x, np.log(shares)) * np.sqrt(3) - x[-1]
    w["output bias"] = output - shares @ (x @ w["value"].T)
    w["norm bias"] = norm - layer_norm(x[-1] + output)
    w["up bias"] = hidden - w["up"] @ norm
    w["down bias"] = down - w["down"] @ np.maximum(hidden, 0)
    w["last norm bias"] = last - layer_norm(norm + down)
    w["head bias"] = logits - w["head"] @ last
    return w


WORDS = ["<SOS>", "我", "很", "开心", "<EOS>"]
PLACES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.1, 0.2, 0.3], [0, 0, 1]])
TOKENS = np.diff(PLACES, axis=0)  # a word leads from its place to the next
START = ["<SOS>"]

w = aimed(PLACES[1:4])
ids = [WORDS.index(word) for word in START]
while WORDS[ids[-1]] != "<EOS>" and len(ids) < len(PLACES):
    chances = softmax(decoder(ids, w)[-1])
    ids.append(int(chances.argmax()))
    print(dict(zip(WORDS, chances.round(4).tolist())), "->", WORDS[ids[-1]])
print(*(WORDS[id] for id in ids))
