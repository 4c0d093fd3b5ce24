"""Recipes and data builders of the models that ship with lucidlm."""
