"""The Transformer, in reading order: embedding, position, norm, attention, feedforward, cache,
transformer, engine.

Shapes: B rows, T new positions, S visible positions, H query heads, KV key/value heads, D
dimensions a head.
"""
