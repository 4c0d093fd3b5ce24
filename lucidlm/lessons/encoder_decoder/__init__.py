"""A whole encoder-decoder, set by hand, that translates."""

ORDER = 50
