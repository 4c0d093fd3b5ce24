"""Every function in NumPy, right."""

import numpy as np


def softmax(x):
    top = np.max(x, axis=-1, keepdims=True)
    e = np.exp(x - top)
    return e / e.sum(axis=-1, keepdims=True)


def attention(q, k, v, mask=None):
    scores = q @ k.T / np.sqrt(q.shape[-1])
    if mask is None:
        return softmax(scores) @ v
    seen = ~mask
    top = np.max(scores, axis=-1, keepdims=True, where=seen, initial=-1e30)
    e = np.where(seen, np.exp(np.where(seen, scores - top, 0.0)), 0.0)
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total > 0, total, 1.0) @ v


def multi_head_attention(x, w_q, w_k, w_v, w_o, heads, mask=None):
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    outputs = []
    for columns in np.split(np.arange(q.shape[1]), heads):
        outputs.append(attention(q[:, columns], k[:, columns], v[:, columns], mask))
    return np.hstack(outputs) @ w_o


def layer_norm(x, weight, bias, eps):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def rms_norm(x, weight, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def feed_forward(x, w_up, b_up, w_down, b_down):
    return np.maximum(x @ w_up + b_up, 0) @ w_down + b_down


def gated_feed_forward(x, w_gate, w_up, w_down):
    gate = x @ w_gate
    return (gate / (1 + np.exp(-gate)) * (x @ w_up)) @ w_down


def embed(ids, table):
    return table[ids]


def positional_encoding(length, dim):
    encoding = np.zeros((length, dim))
    for p in range(length):
        for i in range(dim // 2):
            encoding[p, 2 * i] = np.sin(p / 10000 ** (2 * i / dim))
            encoding[p, 2 * i + 1] = np.cos(p / 10000 ** (2 * i / dim))
    return encoding


def rotate(x, positions, base):
    half = x.shape[-1] // 2
    angles = positions[:, None] * base ** (-np.arange(half) / half)
    a, b = x[:, :half], x[:, half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def decoder_layer(x, params):
    p = params
    ahead = np.arange(len(x))
    mask = ahead[None] > ahead[:, None]
    written = multi_head_attention(x, p["w_q"], p["w_k"], p["w_v"], p["w_o"], p["heads"], mask)
    y = layer_norm(x + written, p["attention_norm_weight"], p["attention_norm_bias"], p["eps"])
    written = feed_forward(y, p["w_up"], p["b_up"], p["w_down"], p["b_down"])
    weight, bias = p["feed_forward_norm_weight"], p["feed_forward_norm_bias"]
    return layer_norm(y + written, weight, bias, p["eps"])


def greedy(logits):
    return logits.argmax()


def sample(logits, temperature, top_k, top_p, u):
    if temperature == 0:
        return greedy(logits)
    order = np.argsort(-logits, kind="stable")
    if top_k > 0:
        order = order[:top_k]
    p = softmax(logits[order] / temperature)
    kept = np.cumsum(p) - p < top_p
    whole = np.zeros(len(logits))
    whole[order[kept]] = p[kept] / p[kept].sum()
    return int(np.searchsorted(np.cumsum(whole), u, side="right"))
