"""The Transformer's ancestors, ten times simpler: counted n-grams and word vectors."""

from lucidlm.classical.ngram import NGram
from lucidlm.classical.vectors import WordVectors

__all__ = ["NGram", "WordVectors"]
