"""A layer, correct but for the order of norm and sum."""

from right_numpy import feed_forward as feed
from right_numpy import layer_norm as norm
from right_numpy import multi_head_attention as attend
from right_numpy import np


def decoder_layer(x, params):
    p, mask = params, np.triu(np.ones((len(x), len(x)), dtype=bool), 1)
    h = attend(x, p["w_q"], p["w_k"], p["w_v"], p["w_o"], p["heads"], mask)
    x = x + norm(h, p["attention_norm_weight"], p["attention_norm_bias"], p["eps"])
    h = feed(x, p["w_up"], p["b_up"], p["w_down"], p["b_down"])
    return x + norm(h, p["feed_forward_norm_weight"], p["feed_forward_norm_bias"], p["eps"])
