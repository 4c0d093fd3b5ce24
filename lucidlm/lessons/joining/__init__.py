"""Input and output joined, one word a step: the matrices that flow, and those that stay."""

ORDER = 120
