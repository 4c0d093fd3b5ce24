"""Attention that neither scales nor protects its softmax from large numbers or empty rows."""

import numpy as np


def attention(q, k, v, mask=None):
    scores = q @ k.T
    if mask is not None:
        scores[mask] = -np.inf
    weights = np.exp(scores)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights @ v
