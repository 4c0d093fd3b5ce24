"""A rotation whose angles are laid out in halves and whose pairs are neighbours."""

import numpy as np


def rotate(x, positions, base):
    dim = x.shape[-1]
    angles = np.outer(positions, base ** (-np.arange(0, dim, 2) / dim))
    angles = np.concatenate([angles, angles], axis=-1)
    turned = np.stack([-x[:, 1::2], x[:, ::2]], axis=-1).reshape(x.shape)
    return x * np.cos(angles) + turned * np.sin(angles)
