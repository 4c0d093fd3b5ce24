"""Attention without the division by the root of d."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(q, k, v, mask=None):
    scores = q @ k.T
    if mask is not None:
        scores = np.where(mask, -np.inf, scores)
        scores[mask.all(-1)] = -np.inf
    weights = softmax(scores)
    return np.nan_to_num(weights) @ v
