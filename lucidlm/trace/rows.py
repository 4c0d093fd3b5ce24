"""The table of what sites there are: axes and equation by noun. Words are in the locale area
`sites`.
"""

from __future__ import annotations

from dataclasses import dataclass

Axes = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What all sites of one noun have in common."""

    axes: Axes
    equation: str  # plain text; lucidlm.trace.mathml draws it


VECTOR: Axes = ("position", "dim")
HEADS: Axes = ("position", "head", "head_dim")
LOOKS: Axes = ("head", "query", "key")
HIDDEN: Axes = ("position", "hidden")
WORDS: Axes = ("position", "word")
ONE: Axes = ("position",)
BY_HEAD: Axes = ("position", "head")

ROWS: dict[str, Row] = {
    "embedding.tokens": Row(VECTOR, "tokens[p,d] = table[id[p],d] * scale"),
    "embedding.segments": Row(VECTOR, "segments[p,d] = table[segment[p],d]"),
    "embedding.positions": Row(VECTOR, "positions[p,d] = table[p + offset,d]"),
    "embedding.sinusoids": Row(
        VECTOR,
        "positions[p,d] = concat(sin(p / 10000^(2 * i / n)), cos(p / 10000^(2 * i / n)))",
    ),
    "embedding.sum": Row(VECTOR, "sum[p,d] = tokens[p,d] + segments[p,d] + positions[p,d]"),
    "norm.mean": Row(ONE, "mean[p] = sum_d(x[p,d]) / n"),
    "norm.scale": Row(ONE, "scale[p] = sqrt(sum_d((x[p,d] - mean[p])^2) / n + eps)"),
    "norm.normalized": Row(VECTOR, "normalized[p,d] = (x[p,d] - mean[p]) / scale[p]"),
    "norm.output": Row(VECTOR, "output[p,d] = normalized[p,d] * weight[d] + bias[d]"),
    "rms.scale": Row(ONE, "scale[p] = sqrt(sum_d(x[p,d]^2) / n + eps)"),
    "rms.normalized": Row(VECTOR, "normalized[p,d] = x[p,d] / scale[p]"),
    "rms.output": Row(VECTOR, "output[p,d] = normalized[p,d] * (weight[d] + offset)"),
    "head_norm.mean": Row(BY_HEAD, "mean[p,h] = sum_i(x[p,h,i]) / n"),
    "head_norm.scale": Row(BY_HEAD, "scale[p,h] = sqrt(sum_i((x[p,h,i] - mean[p,h])^2) / n + eps)"),
    "head_norm.normalized": Row(HEADS, "normalized[p,h,i] = (x[p,h,i] - mean[p,h]) / scale[p,h]"),
    "head_norm.output": Row(HEADS, "output[p,h,i] = normalized[p,h,i] * weight[i] + bias[i]"),
    "head_rms.scale": Row(BY_HEAD, "scale[p,h] = sqrt(sum_i(x[p,h,i]^2) / n + eps)"),
    "head_rms.normalized": Row(HEADS, "normalized[p,h,i] = x[p,h,i] / scale[p,h]"),
    "head_rms.output": Row(HEADS, "output[p,h,i] = normalized[p,h,i] * (weight[i] + offset)"),
    "layer.residual_in": Row(VECTOR, "residual_in[p,d] = x[p,d]"),
    "layer.residual_mid": Row(VECTOR, "residual_mid[p,d] = x[p,d]"),
    "layer.residual_cross": Row(VECTOR, "residual_cross[p,d] = x[p,d]"),
    "layer.residual_out": Row(VECTOR, "residual_out[p,d] = x[p,d]"),
    "attention.query": Row(HEADS, "query[p,h,i] = sum_d(x[p,d] * W[h,i,d]) + b[h,i]"),
    "attention.key": Row(HEADS, "key[p,h,i] = sum_d(x[p,d] * W[h,i,d]) + b[h,i]"),
    "attention.value": Row(HEADS, "value[p,h,i] = sum_d(x[p,d] * W[h,i,d]) + b[h,i]"),
    "attention.query_rotated": Row(
        HEADS, "rotated[p,h,i] = q[i] * cos(p * f[i]) - q[j] * sin(p * f[i])"
    ),
    "attention.key_rotated": Row(
        HEADS, "rotated[p,h,i] = k[i] * cos(p * f[i]) - k[j] * sin(p * f[i])"
    ),
    "attention.products": Row(LOOKS, "products[h,q,k] = sum_i(query[q,h,i] * key[k,h,i])"),
    "attention.position_bias": Row(LOOKS, "position_bias[h,q,k] = table[bucket(k - q),h]"),
    "attention.scores": Row(LOOKS, "scores[h,q,k] = products[h,q,k] * scale + bias[h,q,k]"),
    "attention.pattern": Row(
        LOOKS, "pattern[h,q,k] = exp(scores[h,q,k] - m[h,q]) / sum_k(exp(scores[h,q,k] - m[h,q]))"
    ),
    "attention.rounded": Row(VECTOR, "rounded[p,d] = round(x[p,d])"),
    "attention.rounded_memory": Row(VECTOR, "rounded[p,d] = round(x[p,d])"),
    "attention.mixed": Row(HEADS, "mixed[q,h,i] = sum_k(pattern[h,q,k] * value[k,h,i])"),
    "attention.rounded_mixed": Row(HEADS, "rounded[q,h,i] = round(mixed[q,h,i])"),
    "attention.head_outputs": Row(
        ("position", "head", "dim"), "head_outputs[p,h,d] = sum_i(mixed[p,h,i] * W[d,h,i])"
    ),
    "attention.output": Row(VECTOR, "output[p,d] = sum_h(sum_i(mixed[p,h,i] * W[d,h,i])) + b[d]"),
    "add_norm.added": Row(VECTOR, "added[p,d] = x[p,d] + sublayer[p,d]"),
    "feedforward.rounded": Row(VECTOR, "rounded[p,d] = round(x[p,d])"),
    "feedforward.gate": Row(HIDDEN, "gate[p,j] = sum_d(x[p,d] * W[j,d]) + b[j]"),
    "feedforward.up": Row(HIDDEN, "up[p,j] = sum_d(x[p,d] * W[j,d]) + b[j]"),
    "feedforward.activated": Row(HIDDEN, "activated[p,j] = f(x[p,j])"),
    "feedforward.product": Row(HIDDEN, "product[p,j] = activated[p,j] * up[p,j]"),
    "feedforward.rounded_inner": Row(HIDDEN, "rounded[p,j] = round(x[p,j])"),
    "feedforward.output": Row(VECTOR, "output[p,d] = sum_j(x[p,j] * W[d,j]) + b[d]"),
    "head.rounded": Row(VECTOR, "rounded[p,d] = round(scale * x[p,d])"),
    "head.projected": Row(VECTOR, "projected[p,d] = sum_e(x[p,e] * W[d,e]) + b[d]"),
    "head.activated": Row(VECTOR, "activated[p,d] = f(projected[p,d])"),
    "head.transformed": Row(VECTOR, "transformed[p,d] = x[p,d]"),
    "head.rounded_transformed": Row(VECTOR, "rounded[p,d] = round(scale * x[p,d])"),
    "head.logits": Row(WORDS, "logits[p,w] = scale * sum_d(x[p,d] * W[w,d]) + b[w]"),
    "pooler.projected": Row(("dim",), "projected[d] = sum_e(x[0,e] * W[d,e]) + b[d]"),
    "pooler.pooled": Row(("dim",), "pooled[d] = tanh(projected[d])"),
    "sampling.logits": Row(WORDS, "logits[p,w] = head.logits[p - 1,w]"),
    "sampling.penalised": Row(WORDS, "penalised[p,w] = penalty(logits[p,w]) + bias[w]"),
    "sampling.scaled": Row(WORDS, "scaled[p,w] = penalised[p,w] / temperature"),
    "sampling.kept": Row(WORDS, "kept[p,w] = top_k(w) * top_p(w) * min_p(w)"),
    "sampling.probabilities": Row(
        WORDS, "probabilities[p,w] = exp(scaled[p,w] - m[p]) / sum_v(exp(scaled[p,v] - m[p]))"
    ),
    "sampling.cdf": Row(WORDS, "cdf[p,w] = cdf[p,w - 1] + probabilities[p,w]"),
    "sampling.draw": Row(ONE, "draw[p] = random(seed)"),
    "sampling.id": Row(ONE, "id[p] = first(w, cdf[p,w] > draw[p])"),
    "tokenizer.text": Row((), "text = prompt"),
    "tokenizer.normalized": Row((), "normalized = normalize(text)"),
    "tokenizer.pretokens": Row(("pretoken",), "pretokens = split(normalized)"),
    "tokenizer.merges": Row(("pretoken",), "merges = merge(pretokens)"),
    "tokenizer.pieces": Row(ONE, "pieces = cut(pretokens)"),
    "tokenizer.bytes": Row(ONE, "bytes[p] = spell(pieces[p])"),
    "tokenizer.ids": Row(ONE, "ids[p] = vocabulary(pieces[p])"),
    "tokenizer.spans": Row(ONE, "spans[p] = place(pieces[p])"),
}
