"""Train the three small tokenizers that come with the package: `make tokenizers`.

The same sentences give the same files, byte for byte; a test holds them to that.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lucidlm.text.builtin import DATA, KINDS, SIZES, corpus
from lucidlm.text.folder import save_tokenizer
from lucidlm.text.train import train_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=DATA, help="folder to write to (default: the package's own)"
    )
    out: Path = parser.parse_args().out
    for kind in KINDS:
        make(kind, out / kind)


def make(kind: str, folder: Path) -> None:
    """Train one kind and write its files."""
    tokenizer = train_tokenizer(kind, corpus(), SIZES[kind])
    save_tokenizer(tokenizer, folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(json.dumps({"kind": kind, "tokens": tokenizer.vocab_size, "bytes": size}))


if __name__ == "__main__":
    main()
