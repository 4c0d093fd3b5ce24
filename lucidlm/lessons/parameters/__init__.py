"""Where a large model's parameters are, counted."""

ORDER = 90
