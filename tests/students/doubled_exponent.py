"""Positions as in many tutorials: i already counts by twos, and is doubled for each column."""

import numpy as np


def positional_encoding(length, dim):
    pe = np.zeros((length, dim))
    for pos in range(length):
        for i in range(0, dim, 2):
            pe[pos, i] = np.sin(pos / 10000 ** (2 * i / dim))
            pe[pos, i + 1] = np.cos(pos / 10000 ** (2 * (i + 1) / dim))
    return pe
