"""A sentence cut into pieces by three algorithms, and pieces turned into vectors."""

ORDER = 60
