"""Small models on disk for tests of whole programs: random weights, and a tokenizer trained on a
few lines.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lucidlm.checkpoint.load import Hints
from lucidlm.checkpoint.save import save_checkpoint
from lucidlm.families import families
from lucidlm.parameters import parameters
from lucidlm.text.folder import save_tokenizer
from lucidlm.text.tokenizer import Tokenizer
from lucidlm.text.train import train_tokenizer

TEXT = (
    "The cat sat on the mat, and the dog sat on the cat.",
    "我爱你，你也爱我。今天我很开心，我很高兴。",
    "A capital is a city; the capital of France is Paris.",
)
CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SHAPES = {
    "llama": ("llama", "llama 2"),
    "gpt2": None,
    "bert": ("bert", "masked words"),
    "marian": ("bart", "marian"),
}


def build(
    folder: Path, kind: str = "llama", *, positions: int = 64, chat: bool = False, seed: int = 0
) -> Path:
    """A model folder in Hugging Face's layout; `chat` gives it a chat template."""
    name, shape = SHAPES[kind] or ("gpt2", next(iter(families()["gpt2"].tiny)))
    family = families()[name]
    tokenizer = _tokenizer(kind)
    config = family.read({**family.tiny[shape], **_sizes(kind, tokenizer.vocab_size, positions)})
    rng = np.random.default_rng(seed)
    weights = {at: _weight(rng, at, size) for at, size in parameters(config).items()}
    specials = tokenizer.specials
    start = 0 if kind == "marian" else None
    hints = Hints(end=frozenset(specials.eos), pad=specials.pad, decoder_start=start)
    save_checkpoint(folder, family, config, weights, hints)
    save_tokenizer(tokenizer, folder)
    if chat:
        path = folder / "tokenizer_config.json"
        said: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(said | {"chat_template": CHAT}), encoding="utf-8")
    return folder


def _tokenizer(kind: str) -> Tokenizer:
    if kind == "bert":
        return train_tokenizer("wordpiece", TEXT, 150)
    return train_tokenizer("bpe", TEXT, 320)


def _sizes(kind: str, vocab_size: int, positions: int) -> dict[str, Any]:
    length = {"gpt2": "n_positions"}.get(kind, "max_position_embeddings")
    return {"vocab_size": vocab_size, length: positions}


def _weight(rng: np.random.Generator, address: str, shape: tuple[int, ...]) -> Any:
    """Norms near 1, everything else small and random."""
    centre = 1.0 if "norm" in address and address.endswith("weight") else 0.0
    return (centre + rng.standard_normal(shape) * 0.2).astype(np.float32)
