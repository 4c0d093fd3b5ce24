"""One decoder layer: attention and feed-forward, each with add and norm."""

ORDER = 30
