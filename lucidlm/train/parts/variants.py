"""The models: the whole Transformer, and each without one part."""

from __future__ import annotations

import torch
from torch import nn

from lucidlm.model.transformer import Layer, Transformer
from lucidlm.train.building import fresh
from lucidlm.train.parts.modules import Alone, Recurrent, Skipped, Uniform
from lucidlm.train.parts.settings import Settings, config_of, gru_hidden


def build(name: str, settings: Settings, vocab_size: int, seed: int) -> Transformer:
    """The model of the run called `name` with its initial weights."""
    model = fresh(config_of(name, settings, vocab_size), seed)
    if name == "gru":
        torch.manual_seed(seed)
        hidden = gru_hidden(settings, vocab_size)
        cells = [Recurrent(settings.dim, hidden), Recurrent(hidden, hidden, settings.dim)]
        assert model.decoder is not None
        model.decoder.layers = nn.ModuleList(cells)
    for layer in model.modules():
        if isinstance(layer, Layer):
            _take_away(name, layer)
    return model


def learnt(model: Transformer) -> int:
    """How many parameters training changes."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def _take_away(name: str, layer: Layer) -> None:
    """Take the part that `name` says out of `layer`, where `Config` could not say it."""
    parts: dict[str, nn.Module] = {}
    if name == "uniform":
        parts = {"attention": Uniform(layer.attention)}
    elif name == "no-feedforward":
        parts = {"feedforward": nn.Identity(), "feedforward_norm": Skipped()}
    elif name == "no-residual":
        parts = {
            "attention_norm": Alone(layer.attention_norm),
            "feedforward_norm": Alone(layer.feedforward_norm),
        }
    for place, module in parts.items():
        setattr(layer, place, module)
