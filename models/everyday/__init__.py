"""The everyday world in two languages: a grammar of sentence pairs, and written material."""
