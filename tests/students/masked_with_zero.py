"""Attention in PyTorch that fills hidden scores with 0."""

import torch


def attention(q, k, v, mask=None):
    scores = torch.einsum("td,sd->ts", q, k) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask, 0.0)
    return torch.softmax(scores, dim=-1) @ v
