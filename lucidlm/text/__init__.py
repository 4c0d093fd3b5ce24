"""Text to token ids and back, and how: tokenizers, byte-exact explanation, chat templates. No
PyTorch here."""
