"""GELU, in its usual approximation, where SiLU belongs."""

import numpy as np


def gated_feed_forward(x, w_gate, w_up, w_down):
    a = x @ w_gate
    gelu = a / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))
    return (gelu * (x @ w_up)) @ w_down
