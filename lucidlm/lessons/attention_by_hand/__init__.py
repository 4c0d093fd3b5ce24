"""One step of attention, with nothing but dot products."""

ORDER = 10
