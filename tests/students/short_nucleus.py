"""Top-p that drops the token at which the sum crosses p."""

import numpy as np
from right_numpy import softmax


def sample(logits, temperature, top_k, top_p, u):
    if temperature == 0:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")
    values = logits[order] / temperature
    if top_k:
        values[top_k:] = -np.inf
    if top_p < 1:
        values[1:][np.cumsum(softmax(values))[1:] > top_p] = -np.inf
    probabilities = np.zeros(len(logits))
    probabilities[order] = softmax(values)
    return int(np.searchsorted(np.cumsum(probabilities), u, side="right"))
