"""What belongs to the model `poet`."""
