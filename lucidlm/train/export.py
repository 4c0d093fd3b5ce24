"""The trained model as a folder in Hugging Face's layout, which lucidlm and transformers open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lucidlm.checkpoint.save import save_checkpoint
from lucidlm.model.transformer import Transformer
from lucidlm.parameters import parameters
from lucidlm.text.folder import save_tokenizer
from lucidlm.train.checkpoints import failed_to_write
from lucidlm.train.lora import merge, save_adapter, unmerge
from lucidlm.train.setup import Subject

FOLDER, ADAPTER = "model", "adapter"


def export(model: Transformer, subject: Subject, run: Path) -> Path:
    """Write `model/` into the run's folder, and the adapter alone where one was learnt.

    It takes the place of an earlier one when it is whole. Raises TrainError where it cannot be
    written.
    """
    place = run / FOLDER
    unfinished, old = run / f".{FOLDER}-unfinished", run / f".{FOLDER}-old"
    try:
        for rest in (unfinished, old):
            shutil.rmtree(rest, ignore_errors=True)
        unfinished.mkdir()
        lora = subject.recipe.lora
        merge(model)
        try:
            weights = dict(_weights(model, subject))
            save_checkpoint(unfinished, subject.family, subject.config, weights, subject.hints)
        finally:
            unmerge(model)
        save_tokenizer(subject.corpus.tokenizer, unfinished)
        if lora is not None:
            save_adapter(model, lora, subject.recipe.model.start or "", run / ADAPTER)
        if place.exists():
            os.rename(place, old)
        os.rename(unfinished, place)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise failed_to_write(error, place) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return place


def _weights(model: Transformer, subject: Subject) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """The model's own parameters, without an adapter's."""
    found = model.weights()
    for address in parameters(subject.config):
        yield address, found[address].detach().float().cpu().numpy()
