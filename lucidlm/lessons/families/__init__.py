"""Three structures from the same blocks."""
