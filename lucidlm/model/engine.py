"""The readable model behind the `Engine` protocol: ragged lists of ids in, NumPy logits out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lucidlm.config import Config
from lucidlm.engine import EXACT, Floats, ForwardContext, Ids
from lucidlm.model.cache import KeyValueCache
from lucidlm.model.embedding import Embedding, Head
from lucidlm.model.transformer import Layer, Transformer, remember

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


class TorchEngine:
    """The readable PyTorch model. Nothing is kept between calls but the weights, so threads may
    share it.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.vocab_size = model.config.vocab_size
        self.max_positions = model.config.max_positions
        self.rounding = EXACT
        self.dtype = str(model.table.dtype).removeprefix("torch.")

    def cache(self, rows: int) -> KeyValueCache:
        return KeyValueCache(rows)

    @torch.inference_mode()
    def encode(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        padded, lengths = self._pad(ids)
        memory = self.model.encode(padded, lengths, self._segments(ctx))
        if isinstance(ctx.cache, KeyValueCache) and self.model.decoder is not None:
            ctx.cache.memory, ctx.cache.memory_lengths = memory, lengths.tolist()
            ctx.cache.cross.clear()
        return _numpy(_blanked(memory, lengths))

    @torch.inference_mode()
    def step(self, ids: Sequence[Ids], ctx: ForwardContext) -> Floats:
        padded, lengths = self._pad(ids)
        ctx, memory = _recall(self._segments(ctx))
        x = self.model.run(padded, lengths, ctx, memory)
        if isinstance(ctx.cache, KeyValueCache):
            ctx.cache.advance(lengths.tolist())
        if ctx.every_position:
            return _numpy(_blanked(self.model.logits(x, ctx), lengths))
        last = x[torch.arange(len(x)), lengths - 1][:, None]  # (B, 1, dim): only these need logits
        return _numpy(self.model.logits(last, ctx)[:, 0])

    @torch.inference_mode()
    def replay(self, part: str, inputs: Any, ctx: ForwardContext) -> Floats:
        module = self._parts[part]
        table = self.model.table
        x = torch.tensor(np.asarray(inputs), device=table.device)
        positions = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        lengths = torch.full((len(x),), x.shape[1], device=x.device)
        if ctx.memory is not None:
            looked_at = torch.tensor(np.asarray(ctx.memory), device=table.device, dtype=table.dtype)
            ctx = replace(ctx, memory=looked_at)
        ctx, memory = _recall(self._segments(ctx))
        ctx = replace(ctx, positions=positions, lengths=lengths, cache=None)
        if isinstance(module, Embedding):
            return _numpy(module(x, ctx))
        x = x.to(table.dtype)
        if isinstance(module, Layer):
            encodes = part.startswith("encoder.") or self.model.decoder is None
            stack = self.model.encoder if encodes else self.model.decoder
            assert stack is not None
            return _numpy(module(x, stack.look(ctx, x.dtype), memory))
        return _numpy(module(x, table, ctx) if isinstance(module, Head) else module(x, ctx))

    def weight(self, address: str) -> NDArray[np.floating]:
        return _array(self._weights[address])

    @cached_property
    def sites(self) -> Sequence[str]:
        """The names that taps give when one position runs through each stack, in order of
        computation.
        """
        seen: dict[str, None] = {}

        def note(path: str, name: str, value: Tensor) -> Tensor:
            seen[f"{path}.{name}" if path else name] = None
            return value

        ctx = ForwardContext(tracer=note, cache=self.cache(1))
        if self.model.encoder is not None:
            self.encode([[0]], ctx)
        if self.model.head is not None:
            self.step([[0]], ctx)
        return list(seen)

    def weights(self) -> Iterator[tuple[str, NDArray[np.floating]]]:
        """Every parameter's address and array: bfloat16 as float32, which holds it exactly."""
        yield from ((address, _array(weight)) for address, weight in self._weights.items())

    @cached_property
    def _parts(self) -> dict[str, nn.Module]:
        return {str(module.path): module for module in self.model.modules()}

    @cached_property
    def _weights(self) -> dict[str, nn.Parameter]:
        return self.model.weights()

    def _pad(self, ids: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        """Rows of different lengths -> (B, T) padded behind with zeros, and (B,) lengths."""
        lengths = [len(row) for row in ids]
        width, device = max(lengths), self.model.table.device
        padded = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=device)
        return padded, torch.tensor(lengths, device=device)

    def _segments(self, ctx: ForwardContext) -> ForwardContext:
        return ctx if ctx.segments is None else replace(ctx, segments=self._pad(ctx.segments)[0])


def build(
    config: Config, weights: Iterable[tuple[str, NDArray[np.floating]]], dtype: str = "float32"
) -> TorchEngine:
    """An engine from a config and (address, array) for every parameter.

    Arrays of the right type are used in place where their layout is the one wanted.
    """
    with torch.device("meta"):
        model = Transformer(config)
    slots = {model.address(name): name for name, _ in model.named_parameters()}
    for address, array in weights:
        owner, _, leaf = slots.pop(address).rpartition(".")
        module = model.get_submodule(owner)
        assert getattr(module, leaf).shape == array.shape, address
        weight = _laid_out(torch.from_numpy(array).to(DTYPES[dtype]))
        setattr(module, leaf, nn.Parameter(weight, requires_grad=False))
    assert not slots, f"no weights for {sorted(slots)[:3]}"
    return TorchEngine(model.eval())


def _laid_out(weight: Tensor) -> Tensor:
    """A tall float32 matrix column by column: its product with one vector, which is what decoding
    is made of, reads it 1.4 to 1.8 times as fast so. Wide ones are as fast by rows or faster."""
    tall = weight.ndim == 2 and weight.shape[0] > weight.shape[1]
    return weight.T.contiguous().T if tall and weight.dtype == torch.float32 else weight


def _recall(ctx: ForwardContext) -> tuple[ForwardContext, Tensor | None]:
    """The encoder's output that the cache or ctx itself holds, and ctx with the sight of it."""
    if ctx.memory is not None:
        memory = ctx.memory
        lengths = torch.full((len(memory),), memory.shape[1], device=memory.device)
        return remember(ctx, lengths, memory), memory
    if not isinstance(ctx.cache, KeyValueCache) or ctx.cache.memory is None:
        return ctx, None
    memory = ctx.cache.memory
    lengths = torch.tensor(ctx.cache.memory_lengths, device=memory.device)
    return remember(ctx, lengths, memory), memory


def _blanked(x: Tensor, lengths: Tensor) -> Tensor:
    """x (B, T, ...) with zeros behind each row's end."""
    real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return x * real[..., None]


def _array(weight: Tensor) -> NDArray[np.floating]:
    """A parameter as it is; bfloat16, which NumPy does not have, as float32."""
    wide = weight.float() if weight.dtype == torch.bfloat16 else weight
    return wide.detach().cpu().numpy()


def _numpy(x: Tensor) -> Floats:
    array: Floats = x.float().cpu().numpy()
    return array
