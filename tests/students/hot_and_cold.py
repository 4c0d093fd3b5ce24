"""Sampling with the logits multiplied by the temperature."""

from right_numpy import greedy
from right_numpy import sample as right


def sample(logits, temperature, top_k, top_p, u):
    if temperature == 0:
        return greedy(logits)
    return right(logits * temperature, 1.0, top_k, top_p, u)
