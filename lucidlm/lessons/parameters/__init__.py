"""Where a large model's parameters are, counted."""
