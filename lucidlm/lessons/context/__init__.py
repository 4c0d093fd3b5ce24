"""One character in different company: its vector before and after the layers."""

ORDER = 80
