"""One decoder layer. New since the script of one-head: an output matrix, the feed-forward, and
add and norm after each. Leave out a norm or the ReLU, and see what moves.
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


def aimed(x):
    """Small whole numbers, and biases that lead the last word through the article's figures."""
    w = {
        "query": np.eye(3),
        "key": np.eye(3),
        "value": np.array([[0, -1, -1], [-1, 0, -1], [1, 1, 1]]),
        "up": np.array([[0, 1, 1], [-1, 1, 0], [1, 0, -1], [-1, -1, 1], [1, 1, -1], [0, 1, 1]]),
        "down": np.array([[-1, 1, 1, 1, 0, -1], [0, -1, -1, 1, 1, -1], [1, -1, -1, -1, -1, 1]]),
    }
    shares = np.array([0.1, 0.3, 0.6])
    output, norm = np.array([0.8, 1.2, 0.4]), np.array([0, 1, -0.5])
    hidden, down = np.array([0.5, -0.2, 1.8, 0.1, -1, 0.9]), np.array([1.5, 0.2, 2])
    last = np.array([0.8, 0.1, 1.5])
    w["query bias"] = np.linalg.solve(x, np.log(shares)) * np.sqrt(3) - x[-1]
    w["output bias"] = output - shares @ (x @ w["value"].T)
    w["norm bias"] = norm - layer_norm(x[-1] + output)
    w["up bias"] = hidden - w["up"] @ norm
    w["down bias"] = down - w["down"] @ np.maximum(hidden, 0)
    w["last norm bias"] = last - layer_norm(norm + down)
    return w


WORDS = ["<SOS>", "我", "很"]
x = np.array([[1, 0, 0], [0, 1, 0], [0.1, 0.2, 0.3]])
for word, before, after in zip(WORDS, x, layer(x, aimed(x))):
    print(f"{word:6} {before} -> {after.round(4)}")
