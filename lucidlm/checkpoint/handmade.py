"""A model whose weights are set by hand, written as a checkpoint folder like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lucidlm.checkpoint.load import Hints
from lucidlm.checkpoint.safetensors_write import FloatType
from lucidlm.checkpoint.save import save_checkpoint
from lucidlm.config import Config
from lucidlm.errors import CheckpointError, UnknownName
from lucidlm.families import own
from lucidlm.parameters import parameters
from lucidlm.text.folder import save_tokenizer
from lucidlm.text.listed import listed_tokenizer

Weights = dict[str, NDArray[np.floating]]


def write_handmade(
    folder: Path,
    config: Config,
    weights: Mapping[str, ArrayLike],
    words: Sequence[str],
    *,
    start: str,
    end: str,
    dtype: FloatType = "F32",
) -> Path:
    """Write config, weights and vocabulary into `folder`, and return it.

    `weights` are by address; one that is not given is zero, a norm's weight one. `words[id]` is the
    token of that id. Generation begins with `start`: a decoder alone reads it before the text, a
    decoder beside an encoder by itself, and there `end` closes the source. Raises UnknownName for
    an address that the config does not have, and CheckpointError for another shape.
    """
    whole = complete(config, weights)
    beside = config.kind == "encoder-decoder"
    tokenizer = listed_tokenizer(words, start=None if beside else start, end=end, ends=beside)
    tokenizer.check(config.vocab_size)
    first = words.index(start)
    hints = Hints(
        bos=first, end=frozenset(tokenizer.specials.eos), decoder_start=first if beside else None
    )
    save_checkpoint(folder, own.FAMILY, config, whole, hints, dtype=dtype)
    save_tokenizer(tokenizer, folder)
    return folder


def complete(config: Config, weights: Mapping[str, ArrayLike]) -> Weights:
    """Every parameter in float64: those given, zeros for the others, ones for norms' weights."""
    shapes = parameters(config)
    given = {address: np.asarray(value, np.float64) for address, value in weights.items()}
    for address, value in given.items():
        if address not in shapes:
            raise UnknownName("mapping.unknown_address", address, shapes)
        if value.shape != shapes[address]:
            raise CheckpointError(
                "mapping.shape", name=address, found=value.shape, wanted=shapes[address]
            )
    return {at: given.get(at, _untouched(at, shape)) for at, shape in shapes.items()}


def _untouched(address: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """What a parameter is that nobody has set."""
    is_gain = address.endswith(".weight") and len(shape) == 1  # only norms have one along one axis
    return np.ones(shape) if is_gain else np.zeros(shape)
