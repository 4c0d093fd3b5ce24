"""Weights and vocabularies on disk: safetensors, GGUF, the Hugging Face hub, and models pulled from
package indexes.
"""
