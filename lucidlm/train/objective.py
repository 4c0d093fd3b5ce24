"""What is made small: the cross-entropy of the targets, summed, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lucidlm.engine import ForwardContext
from lucidlm.model.transformer import Transformer
from lucidlm.train.batch import NO_LOSS, PADDING, Batch

SHARES = 16  # the head reads sixteenths of the positions, so that few shapes are compiled


@dataclass(frozen=True)
class Tensors:
    """A batch on its device. `positions` and `documents` are None where every line is one document
    from its first place to its last; `places` (P,) are those that the head reads, None for all.
    """

    ids: Tensor  # (B, T)
    targets: Tensor  # (B, T), or (P,)
    places: Tensor | None = None
    positions: Tensor | None = None
    documents: Tensor | None = None
    source: Tensor | None = None
    source_positions: Tensor | None = None
    source_documents: Tensor | None = None


def tensors(batch: Batch, device: torch.device) -> Tensors:
    """`batch` on `device`. What is left out of it depends on the batch alone."""
    found: dict[str, NDArray[Any]] = {"ids": batch.ids, "targets": batch.targets}
    if batch.source is not None:
        found["source"] = batch.source
    if not _whole(batch):
        found |= {"positions": batch.positions, "documents": batch.documents}
        if batch.source_positions is not None and batch.source_documents is not None:
            found["source_positions"] = batch.source_positions
            found["source_documents"] = batch.source_documents
    places = _places(batch.targets)
    if places is not None:
        targets = np.append(batch.targets.reshape(-1), NO_LOSS)[places]
        found |= {"targets": targets, "places": np.where(targets == NO_LOSS, 0, places)}
    return Tensors(**{name: _moved(array, device) for name, array in found.items()})


def loss(
    model: Transformer, batch: Tensors, ctx: ForwardContext, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The sum of all targets' cross-entropies, in float32, and their number.

    With `smoothing` e the target has probability 1 - e, and e is spread over all words (Szegedy et
    al. 2016).
    """
    ctx = _packed(ctx, batch)
    x = model.vectors(batch.ids, ctx, batch.source)
    if batch.places is not None:
        x = x.flatten(0, 1)[batch.places][None]
    logits = model.logits(x, ctx).flatten(0, 1)  # (places, vocab)
    targets = batch.targets.flatten()
    total = functional.cross_entropy(
        logits.float(),
        targets,
        ignore_index=NO_LOSS,
        reduction="sum",
        label_smoothing=smoothing,
    )
    return total, (targets != NO_LOSS).sum()


def _packed(ctx: ForwardContext, batch: Tensors) -> ForwardContext:
    return ForwardContext(
        tracer=ctx.tracer,
        attend=ctx.attend,
        positions=batch.positions,
        documents=batch.documents,
        source_positions=batch.source_positions,
        source_documents=batch.source_documents,
    )


def _whole(batch: Batch) -> bool:
    """Whether each line is one document, all of it, and so each line of its source."""

    def one(positions: NDArray[Any], documents: NDArray[Any]) -> bool:
        counted = np.arange(positions.shape[1])
        real = (documents == documents[:, :1]) & (documents != PADDING)
        return bool(real.all() and (positions == counted).all())

    if batch.source_positions is None or batch.source_documents is None:
        return one(batch.positions, batch.documents)
    return one(batch.positions, batch.documents) and one(
        batch.source_positions, batch.source_documents
    )


def _places(targets: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Flat places with a target, filled up with the place behind the last to a whole number of
    sixteenths; None where they are more than half.
    """
    flat = targets.reshape(-1)
    found = np.flatnonzero(flat != NO_LOSS)
    part = max(1, flat.size // SHARES)
    room = max(1, -(-found.size // part)) * part
    if room > flat.size // 2:
        return None
    return np.concatenate([found, np.full(room - found.size, flat.size)])


def _moved(array: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
