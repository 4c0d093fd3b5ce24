"""The whole forward pass again in float64 NumPy, as equations; it shares no code with the model."""
