"""One attention head: three matrices, a scale, a mask."""

ORDER = 20
