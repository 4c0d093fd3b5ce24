"""A feed-forward network that is linear."""


def feed_forward(x, w_up, b_up, w_down, b_down):
    hidden = x @ w_up + b_up
    return hidden @ w_down + b_down
