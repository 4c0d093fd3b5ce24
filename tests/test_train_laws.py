"""What must hold for any model that is trained: documents beside each other are read as each alone,
kernels agree, dropout is where it belongs, and gradients are those of transformers.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, difference, golden
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model_laws import configs, random_engine
from torch.nn import functional

from lucidlm.checkpoint.load import open_checkpoint
from lucidlm.config import Config
from lucidlm.engine import ForwardContext
from lucidlm.train.activation import gelu, quicken
from lucidlm.train.attention import Fused, explicit, kernel
from lucidlm.train.batch import NO_LOSS, PADDING, Batch
from lucidlm.train.building import from_checkpoint
from lucidlm.train.dropout import Dropout
from lucidlm.train.objective import loss, tensors

CPU = torch.device("cpu")
WHOLE = [("gpt2", "plain"), ("llama", "llama 3"), ("bart", "marian"), ("bert", "masked words")]


def packed(documents: list[list[int]], width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, positions and documents of one line, padded to `width`."""
    ids, positions, owners = np.zeros((3, 1, width), np.int64)
    owners[:] = PADDING
    at = 0
    for number, document in enumerate(documents):
        here = slice(at, at := at + len(document))
        ids[0, here], positions[0, here] = document, range(len(document))
        owners[0, here] = number
    return ids, positions, owners


def batch_of(documents: list[list[int]], sources: list[list[int]] | None, width: int) -> Batch:
    ids, positions, owners = packed(documents, width)
    targets = np.where(owners == PADDING, NO_LOSS, ids)
    more = {}
    if sources is not None:
        names = ("source", "source_positions", "source_documents")
        most = sum(map(len, sources)) + 1
        more = dict(zip(names, packed(sources, most), strict=True))
    return Batch(ids=ids, targets=targets, positions=positions, documents=owners, **more)


@given(configs(), st.data())
@settings(max_examples=20, deadline=None)
def test_documents_beside_each_other_are_read_as_each_alone(config: Config, data: Any) -> None:
    model = random_engine(config).model
    row = st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=5)
    documents = data.draw(st.lists(row, min_size=1, max_size=3))
    sources = [document[::-1] for document in documents]
    batch = batch_of(documents, sources if config.kind == "encoder-decoder" else None, 17)
    wanted = data.draw(st.sampled_from(["readable", "explicit", "sdpa"]))
    attend = None if wanted == "readable" else kernel(config, wanted, CPU, 17)
    with torch.no_grad():
        read = tensors(batch, CPU)
        ctx = ForwardContext(
            attend=attend,
            documents=read.documents,
            positions=read.positions,
            source_documents=read.source_documents,
            source_positions=read.source_positions,
        )
        beside = model(read.ids, ctx, read.source)[0]
        assert beside.isfinite().all()
        for number, document in enumerate(documents):
            source = torch.tensor([sources[number]]) if read.source is not None else None
            alone = model(torch.tensor([document]), ForwardContext(attend=attend), source)[0]
            here = torch.from_numpy(batch.documents[0] == number)
            assert difference(beside[here], alone) < 1e-6


@given(st.booleans(), st.booleans(), st.sampled_from(["causal", "full"]), st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_kernels_are_the_readable_one(hides: bool, biased: bool, mask: Any, group: int) -> None:
    from lucidlm.model.attention import Sight, attend, may_not_see

    numbers = torch.Generator().manual_seed(group)
    q, k, v = (torch.randn(2, 2 * n, 7, 4, generator=numbers).double() for n in (group, 1, 1))
    positions = torch.arange(7)[None]
    hidden = may_not_see(mask, positions, positions, None, None)
    if hides:
        hidden = hidden | (torch.rand(2, 1, 7, 7, generator=numbers) < 0.3)
        hidden = hidden & ~torch.eye(7, dtype=torch.bool)  # all see themselves
    bias = torch.randn(1, 2 * group, 7, 7, generator=numbers).double() if biased else None
    sight = Sight(hidden, bias=bias, mask=None if hides else mask)
    wanted = attend(q, k, v, 0.3, sight, lambda _, x: x)
    for fast in (explicit, Fused()):
        found = fast(q, k, v, 0.3, sight, lambda _, x: x)
        torch.testing.assert_close(found, wanted)


def random_batch(case: Golden, share: float = 1.0) -> Batch:
    """The golden ids as full lines, targets at a share of them."""
    numbers = np.random.default_rng(3)
    ids = case.ids.numpy()
    targets = numbers.integers(0, case.checkpoint.config.vocab_size, ids.shape)
    targets[numbers.random(ids.shape) >= share] = NO_LOSS
    positions = np.tile(np.arange(ids.shape[1]), (len(ids), 1))
    more = {}
    if case.source is not None:
        width = case.source.shape[1]
        more = {
            "source": case.source.numpy(),
            "source_positions": np.tile(np.arange(width), (len(ids), 1)),
            "source_documents": np.zeros_like(case.source.numpy()),
        }
    zeros = np.zeros_like(ids)
    return Batch(ids=ids, targets=targets, positions=positions, documents=zeros, **more)


@pytest.mark.parametrize(("family", "shape"), WHOLE)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("share", [1.0, 0.15])
def test_gradients_are_those_of_transformers(
    family: str, shape: str, smoothing: float, share: float
) -> None:
    """Theirs are put in the place of their weights and read as a checkpoint: by our addresses."""
    case = golden(family, shape)
    batch, model = random_batch(case, share), from_checkpoint(case.checkpoint)
    total, count = loss(
        model, tensors(batch, CPU), ForwardContext(attend=explicit), smoothing=smoothing
    )
    total.backward()

    theirs = type(case.theirs)(case.theirs.config).double().eval()
    theirs.load_state_dict(case.theirs.state_dict())
    for module in theirs.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None  # whose row would not learn from being read
    learnt = list(theirs.parameters())
    if family == "bart":  # a bias that they call a buffer
        learnt.append(theirs.final_logits_bias.requires_grad_())
    inputs = {"input_ids": case.ids}
    if case.source is not None:
        inputs = {"input_ids": case.source, "decoder_input_ids": case.ids}
    logits = theirs(**inputs)[0]
    targets = torch.from_numpy(batch.targets)
    wanted = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="sum", label_smoothing=smoothing
    )
    wanted.backward()
    assert count.item() == (targets != NO_LOSS).sum()
    torch.testing.assert_close(total.double(), wanted, rtol=1e-5, atol=1e-5)

    with torch.no_grad():
        for weight in learnt:
            weight.copy_(torch.zeros_like(weight) if weight.grad is None else weight.grad)
    with tempfile.TemporaryDirectory() as folder:
        theirs.float().save_pretrained(folder)
        gradients = dict(open_checkpoint(folder).weights(np.float32))
    for address, weight in model.weights().items():
        if weight.grad is not None:  # BERT's pooler and unused tables have none
            theirs_here = torch.from_numpy(np.array(gradients.pop(address)))
            if theirs_here.abs().max() > 1e-6:
                assert difference(weight.grad, theirs_here) < 2e-4, address
    assert not any(np.abs(left).max() > 1e-6 for left in gradients.values())


def test_lines_of_one_document_take_the_short_way_to_the_same_loss() -> None:
    case = golden("llama", "llama 3")
    batch, model = random_batch(case), from_checkpoint(case.checkpoint)
    whole = tensors(batch, CPU)
    assert whole.documents is None
    said = tensors(
        Batch(
            ids=batch.ids,
            targets=batch.targets,
            positions=batch.positions,
            documents=batch.documents + np.array([[0], [-1]]),
        ),
        CPU,
    )  # the second line is padding as a whole, which sees itself
    assert said.documents is not None
    for attend in (None, explicit, Fused()):
        losses = [loss(model, x, ForwardContext(attend=attend))[0].item() for x in (whole, said)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@given(st.integers(0, 34), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_few_targets_have_the_loss_they_have_among_all(targets: int, seed: int) -> None:
    case = golden("bert", "masked words")
    batch, model = random_batch(case), from_checkpoint(case.checkpoint)
    kept = np.random.default_rng(seed).permutation(34)[:targets]
    hidden = np.full(34, NO_LOSS)
    hidden[kept] = batch.targets.reshape(-1)[kept]
    hidden = hidden.reshape(batch.targets.shape)
    few = Batch(ids=batch.ids, targets=hidden, positions=batch.positions, documents=batch.documents)
    with torch.no_grad():
        total, count = loss(model, tensors(few, CPU), ForwardContext())
        logits = model(torch.from_numpy(batch.ids), ForwardContext()).flatten(0, 1)
    wanted = functional.cross_entropy(
        logits, torch.from_numpy(hidden).flatten(), reduction="sum", ignore_index=NO_LOSS
    )
    assert count.item() == targets
    torch.testing.assert_close(total, wanted, rtol=1e-5, atol=1e-5)


def test_dropout_is_at_its_places_at_its_rate_and_nowhere_else() -> None:
    seen: dict[str, float] = {}
    dropout = Dropout(0.25)

    def watch(path: str, name: str, value: torch.Tensor) -> torch.Tensor:
        given = torch.ones(200, 200)
        found = dropout(path, name, given)
        if found is not given:
            seen[f"{path}.{name}"] = (found == 0).float().mean().item()
            assert found.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
        return value

    case = golden("bart", "marian")
    model = from_checkpoint(case.checkpoint)
    with torch.no_grad():
        model(case.ids, ForwardContext(tracer=watch), case.source)
    assert all(rate == pytest.approx(0.25, abs=0.02) for rate in seen.values())
    layers = [f"{stack}.layers.{n}" for stack in ("encoder", "decoder") for n in (0, 1)]
    wanted = {"encoder.embedding.sum", "decoder.embedding.sum"}
    for layer in layers:
        wanted |= {f"{layer}.attention.pattern", f"{layer}.attention.output"}
        wanted |= {f"{layer}.feedforward.output"}
        if layer.startswith("decoder"):
            wanted |= {f"{layer}.cross_attention.{name}" for name in ("pattern", "output")}
    assert seen.keys() == wanted


def test_no_model_is_trained_through_a_kernel_that_cannot_see_nothing() -> None:
    from dataclasses import replace

    config = golden("gpt2", "plain").checkpoint.config
    assert config.decoder is not None
    strict = replace(config, decoder=replace(config.decoder, mask="strict"))
    assert kernel(strict, "auto", CPU, 8) is None
    assert kernel(config, "auto", CPU, 8) is explicit
    assert kernel(config, "auto", CPU, 4096) == Fused()


def test_the_quick_gelu_is_gelu() -> None:
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64, requires_grad=True)
    theirs = functional.gelu(x, approximate="tanh")
    torch.testing.assert_close(gelu(x), theirs)
    slopes = [torch.autograd.grad(y.sum(), x)[0] for y in (gelu(x), theirs)]
    torch.testing.assert_close(*slopes)
    model = from_checkpoint(golden("gpt2", "plain").checkpoint)
    quicken(model)
    assert all(layer.feedforward.activation is gelu for layer in model.decoder.layers)
