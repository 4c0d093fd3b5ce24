"""Top-k and top-p that cut after softmax and leave the rest as it is."""

import numpy as np
from right_numpy import softmax


def sample(logits, temperature, top_k, top_p, u):
    if temperature == 0:
        return int(np.argmax(logits))
    p = softmax(logits / temperature)
    order = np.argsort(-p, kind="stable")
    cut = order[top_k or len(order) :]
    before = np.cumsum(p[order]) - p[order]
    p[cut] = 0
    p[order[before >= top_p]] = 0
    return int(np.argmax(np.cumsum(p) > u))
