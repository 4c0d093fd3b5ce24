"""Learns a vocabulary from a text and shows how it cuts a sentence.

python examples/tokenizer.py my.txt "a sentence" my-tokenizer
"""

from __future__ import annotations

import sys
from pathlib import Path

from lucidlm.text.explain import explain
from lucidlm.text.folder import save_tokenizer
from lucidlm.text.spelling import labels
from lucidlm.text.train import train_tokenizer


def main(text: str, sentence: str, folder: str) -> None:
    lines = Path(text).read_text(encoding="utf-8").splitlines()
    tokenizer = train_tokenizer("bpe", lines, 600, han_alone=True)
    ids = tokenizer.encode(sentence)
    print(f"{tokenizer.vocab_size} tokens; {len(ids)} for {sentence!r}:")
    print(" | ".join(labels([tokenizer.bytes_of(id) for id in ids])))
    assert list(explain(tokenizer, sentence).ids) == ids
    save_tokenizer(tokenizer, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
