"""A tokenizer from a plain list of words: the longest that fits is cut off, again and again.

For vocabularies set by hand. Nothing is put between words and nothing is taken away: a text is its
tokens side by side, so that a word that follows a space has it in front (" love").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lucidlm.errors import TokenizerError
from lucidlm.text.backend import MAX_PATTERN, guarded
from lucidlm.text.gguf import surround
from lucidlm.text.tokenizer import Specials, Tokenizer


def listed_tokenizer(
    words: Sequence[str], *, start: str | None = None, end: str | None = None, ends: bool = False
) -> Tokenizer:
    """`words[id]` is the token of that id. `start` goes before every text; `end` closes a
    generation, and with `ends` every text too.

    A text with a character that no word has cannot be encoded: there is no token for the unknown.
    """
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    ids = {word: id for id, word in enumerate(words)}
    special = [name for name in (start, end) if name is not None]
    longest_first = sorted(words, key=len, reverse=True)
    pattern = "|".join(map(_literal, longest_first))
    whole = len(ids) == len(words) and ids.keys() >= set(special)
    if not whole or "" in ids or len(pattern) > MAX_PATTERN:
        raise TokenizerError("text.bad_words", limit=MAX_PATTERN)
    with guarded("text.bad_words", limit=MAX_PATTERN):
        model = models.WordPiece(
            ids,
            unk_token="",
            continuing_subword_prefix="",
            max_input_chars_per_word=MAX_PATTERN,
        )
        backend = Backend(model)
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
        backend.decoder = decoders.Fuse()
        backend.add_special_tokens([AddedToken(name, normalized=False) for name in special])
    first, last = (None if name is None else ids[name] for name in (start, end))
    surround(backend, first, last if ends else None)
    eos = () if last is None else (last,)
    return Tokenizer(backend, Specials(bos=first, eos=eos))


def _literal(word: str) -> str:
    """A pattern that matches `word` and nothing else."""
    return re.sub(r"[^\w\s]", r"\\\g<0>", word)
