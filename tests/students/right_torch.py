"""Every function in PyTorch, right."""

import math

import torch
from torch.nn import functional as F


def softmax(x):
    return torch.softmax(x, -1)


def attention(q, k, v, mask=None):
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(mask, float("-inf"))
    return torch.softmax(scores, -1).nan_to_num(0.0) @ v


def multi_head_attention(x, w_q, w_k, w_v, w_o, heads, mask=None):
    q, k, v = ((x @ w).view(len(x), heads, -1).transpose(0, 1) for w in (w_q, w_k, w_v))
    return attention(q, k, v, mask).transpose(0, 1).reshape(len(x), -1) @ w_o


def layer_norm(x, weight, bias, eps):
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def rms_norm(x, weight, eps):
    return F.rms_norm(x, weight.shape, weight, eps)


def feed_forward(x, w_up, b_up, w_down, b_down):
    return F.linear(F.relu(F.linear(x, w_up.T, b_up)), w_down.T, b_down)


def gated_feed_forward(x, w_gate, w_up, w_down):
    return (F.silu(x @ w_gate) * (x @ w_up)) @ w_down


def embed(ids, table):
    return torch.nn.Embedding.from_pretrained(table, freeze=False)(ids)


def positional_encoding(length, dim):
    waves = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angles = torch.arange(length)[:, None] * waves
    return torch.cat([angles.sin(), angles.cos()], -1)


def rotate(x, positions, base):
    dim = x.shape[-1]
    angles = positions[:, None] / base ** (torch.arange(0, dim, 2) / dim)
    turned = torch.view_as_complex(x.reshape(len(x), -1, 2)) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.view_as_real(turned).flatten(1)


def decoder_layer(x, params):
    p = dict(params)
    mask = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    weights = [p[f"w_{name}"] for name in "qkvo"]
    y = x + multi_head_attention(x, *weights, p["heads"], mask)
    y = layer_norm(y, p["attention_norm_weight"], p["attention_norm_bias"], p["eps"])
    y = y + feed_forward(y, p["w_up"], p["b_up"], p["w_down"], p["b_down"])
    return layer_norm(y, p["feed_forward_norm_weight"], p["feed_forward_norm_bias"], p["eps"])


def greedy(logits):
    return torch.argmax(logits)


def sample(logits, temperature, top_k, top_p, u):
    if temperature == 0:
        return logits.argmax()
    ordered, ids = torch.sort(logits / temperature, descending=True, stable=True)
    if top_k:
        ordered, ids = ordered[:top_k], ids[:top_k]
    p = ordered.softmax(-1)
    p = torch.where(p.cumsum(-1) - p < top_p, p, 0.0)
    whole = torch.zeros_like(logits).scatter(0, ids, p / p.sum())
    return torch.searchsorted(whole.cumsum(0), u, right=True).item()
