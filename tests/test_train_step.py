"""A step against PyTorch's own optimiser in a plain loop, Muon against the singular value
decomposition, and what a run relies on: the same bits again, and nothing learnt from no number.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from golden import golden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lucidlm.config import Config
from lucidlm.engine import ForwardContext
from lucidlm.families import families
from lucidlm.parameters import parameters
from lucidlm.train.batch import NO_LOSS, Batch
from lucidlm.train.building import fresh, from_checkpoint, weights
from lucidlm.train.environment import environment
from lucidlm.train.muon import ITERATIONS, QUINTIC, Muon, orthogonal
from lucidlm.train.recipe import (
    DataRecipe,
    LoraRecipe,
    OptimiserRecipe,
    Recipe,
    ScheduleRecipe,
    Source,
)
from lucidlm.train.schedule import share
from lucidlm.train.step import Stepper, compiles, precision

CPU = torch.device("cpu")
RECIPE = Recipe(
    data=DataRecipe(train=(Source(path="x"),)),
    batch=4,
    context=12,
    schedule=ScheduleRecipe(warmup=2),
    precision="float32",
)


def config(family: str = "llama", shape: str = "llama 3") -> Config:
    return families()[family].read(dict(families()[family].tiny[shape]))


def batches(count: int, rows: int = 4, seed: int = 0, vocab: int = 61) -> list[Batch]:
    """Lines of two documents with a few places that are not learnt."""
    numbers = np.random.default_rng(seed)
    documents = np.tile(np.repeat([0, 1], [5, 7]), (rows, 1))
    positions = np.tile([*range(5), *range(7)], (rows, 1))
    found = []
    for _ in range(count):
        ids = numbers.integers(0, vocab, (rows, 12))
        targets = np.where(numbers.random(ids.shape) < 0.2, NO_LOSS, np.roll(ids, -1, 1))
        found.append(Batch(ids=ids, targets=targets, positions=positions, documents=documents))
    return found


def stepper(recipe: Recipe, total: int = 10, model: Any = None) -> Stepper:
    model = model or fresh(config(), seed=recipe.seed)
    return Stepper(model, recipe, device=CPU, total_steps=total)


@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_a_run_with_adamw_is_the_plain_loop(clip: float) -> None:
    """Ours in float32 beside torch.optim.AdamW, clip_grad_norm_ and cross_entropy on all logits."""
    optimiser = OptimiserRecipe(name="adamw", rate=3e-3, clip=clip, weight_decay=0.2)
    recipe = replace(RECIPE, optimiser=optimiser, label_smoothing=0.1)
    ours = stepper(recipe)
    model = copy.deepcopy(ours.model)
    decayed = [w for at, w in model.weights().items() if w.ndim == 2 and "embedding" not in at]
    rest = [w for at, w in model.weights().items() if w.ndim == 1 or "embedding" in at]
    theirs = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.2}, {"params": rest, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
    )
    for step, batch in enumerate(batches(6)):
        result = ours([batch], step)
        ctx = ForwardContext(
            documents=torch.from_numpy(batch.documents),
            positions=torch.from_numpy(batch.positions),
        )
        logits = model(torch.from_numpy(batch.ids), ctx).flatten(0, 1)
        targets = torch.from_numpy(batch.targets).flatten()
        loss = functional.cross_entropy(logits, targets, label_smoothing=0.1)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip or 1e9)
        for group in theirs.param_groups:
            group["lr"] = 3e-3 * share(step, 10, recipe.schedule)
        theirs.step()
        theirs.zero_grad()
        assert result.loss == pytest.approx(loss.item(), rel=1e-5)
        assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-4)
        assert result.finite and result.tokens == 48
    for address, weight in ours.model.weights().items():
        torch.testing.assert_close(weight, model.weights()[address], rtol=1e-4, atol=2e-6)


def test_two_halves_are_one_batch() -> None:
    """The mean is over all targets, however many each half has."""
    one, two = (stepper(replace(RECIPE, optimiser=OptimiserRecipe(name="adamw"))) for _ in "ab")
    for step, batch in enumerate(batches(5, rows=16)):
        halves = [
            Batch(
                ids=batch.ids[half],
                targets=batch.targets[half],
                positions=batch.positions[half],
                documents=batch.documents[half],
            )
            for half in (slice(0, 5), slice(5, 16))
        ]
        whole, parts = one([batch], step), two(halves, step)
        assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
        assert parts.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-5)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_orthogonal_is_the_quintic_of_singular_values(
    count: int, rows: int, columns: int, seed: int
) -> None:
    """The iterations act on singular values alone, which NumPy's decomposition shows."""
    given = np.random.default_rng(seed).standard_normal((count, rows, columns))
    left, values, right = np.linalg.svd(given, full_matrices=False)
    values = values / (np.sqrt((values**2).sum(-1, keepdims=True)) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    found = orthogonal(torch.from_numpy(given), torch.float64).numpy()
    np.testing.assert_allclose(found, (left * values[:, None]) @ right, atol=1e-5)


def test_muon_is_nearly_the_orthogonal_factor() -> None:
    """What it is there for: U V^T of the gradient, up to 0.35 in singular values."""
    numbers = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(48, 16, generator=numbers))
    before, gradient = weight.detach().clone(), torch.randn(48, 16, generator=numbers)
    muon = Muon({"at": weight}, {"at": 48}, momentum=0.9, weight_decay=0.1, dtype=torch.float32)
    weight.grad = gradient.clone()
    one = torch.tensor(1.0)
    muon.step(0.01, one, one)
    update = (before * (1 - 0.01 * 0.1) - weight.detach()) / (0.01 * 3**0.5)
    left, values, right = torch.linalg.svd(update, full_matrices=False)
    assert values.min() > 0.65 and values.max() < 1.35
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    torch.testing.assert_close(left @ right, u @ v, rtol=0, atol=1e-4)
    torch.testing.assert_close(muon.state()["at"], gradient * 0.1)


def test_muon_moves_matrices_of_layers_and_adamw_the_rest() -> None:
    state = stepper(RECIPE).state()
    muon = {name.removesuffix(".momentum") for name in state if name.endswith(".momentum")}
    adam = {name.removesuffix(".square") for name in state if name.endswith(".square")}
    shapes = parameters(config())
    assert muon | adam == set(shapes) and not muon & adam
    assert muon == {at for at, shape in shapes.items() if len(shape) == 2 and "layers." in at}


def test_in_bfloat16_muon_is_the_same_to_its_rounding() -> None:
    given = torch.randn(2, 32, 16, generator=torch.Generator().manual_seed(1))
    wide, narrow = (orthogonal(given, kind).float() for kind in (torch.float32, torch.bfloat16))
    torch.testing.assert_close(narrow, wide, rtol=0, atol=0.05)


@given(st.integers(0, 20), st.integers(21, 90))
def test_the_schedule_is_that_of_transformers(warmup: int, total: int) -> None:
    """From the end of the warm-up on; theirs begins with a rate of 0, where nothing is learnt."""
    weight = torch.nn.Parameter(torch.zeros(()))
    for decay, theirs in (
        ("cosine", transformers.get_cosine_schedule_with_warmup),
        ("linear", transformers.get_linear_schedule_with_warmup),
    ):
        factor = theirs(torch.optim.SGD([weight], lr=1.0), warmup, total).lr_lambdas[0]
        schedule = ScheduleRecipe(warmup=warmup, decay=decay)
        for step in range(warmup, total):
            assert share(step, total, schedule) == pytest.approx(factor(step))
        shares = [share(step, total, schedule) for step in range(total)]
        assert all(0 < found <= 1 for found in shares)
        assert shares[: warmup + 1] == sorted(shares[: warmup + 1])
        floored = share(total, total, replace(schedule, floor=0.1))
        assert floored == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_what_goes_on_from_a_state_has_the_same_bits(name: str) -> None:
    recipe = replace(RECIPE, dropout=0.2, optimiser=OptimiserRecipe(name=name))
    one, read = stepper(recipe), batches(6)
    losses = [one([batch], step).loss for step, batch in enumerate(read[:3])]
    model = copy.deepcopy(one.model)
    kept = {slot: tensor.clone() for slot, tensor in one.state().items()}
    losses += [one([batch], step).loss for step, batch in enumerate(read) if step >= 3]
    torch.rand(5)  # what was drawn before does not matter
    two = stepper(recipe, model=model)
    two.load_state(kept)
    again = [two([batch], step).loss for step, batch in enumerate(read) if step >= 3]
    assert again == losses[3:] and len(set(losses)) == 6


SCRIPT = """
import sys; sys.path.insert(0, sys.argv[1])
import torch; torch.set_num_threads(2)
from dataclasses import replace
from test_train_step import RECIPE, batches, stepper
run = stepper(replace(RECIPE, dropout=0.1), total=20)
print([run([batch], step).loss.hex() for step, batch in enumerate(batches(20))])
"""


@pytest.mark.slow
def test_two_processes_have_the_same_losses_to_the_bit() -> None:
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in "ab"]
    assert runs[0].stdout == runs[1].stdout and runs[0].stdout.count("0x1.") == 20


def test_what_is_no_number_changes_nothing() -> None:
    for name in ("adamw", "muon"):
        run = stepper(replace(RECIPE, optimiser=OptimiserRecipe(name=name)))
        read = batches(2)
        run([read[0]], 0)
        scale = run.model.weights()["layers.0.attention_norm.input.weight"]
        scale.data[0] = torch.inf
        before = {at: weight.clone() for at, weight in run.model.weights().items()}
        kept = {slot: tensor.clone() for slot, tensor in run.state().items()}
        assert not run([read[1]], 1).finite
        assert all(torch.equal(before[at], w) for at, w in run.model.weights().items())
        assert all(torch.equal(kept[slot], tensor) for slot, tensor in run.state().items())


def test_evaluation_is_the_mean_without_dropout_or_smoothing() -> None:
    run = stepper(replace(RECIPE, dropout=0.5, label_smoothing=0.3))
    read = batches(3)
    sums, count = 0.0, 0
    for batch in read:
        ctx = ForwardContext(
            documents=torch.from_numpy(batch.documents),
            positions=torch.from_numpy(batch.positions),
        )
        with torch.no_grad():
            logits = run.model(torch.from_numpy(batch.ids), ctx).flatten(0, 1)
        targets = torch.from_numpy(batch.targets).flatten()
        sums += functional.cross_entropy(logits, targets, reduction="sum").item()
        count += int((targets != NO_LOSS).sum())
    assert run.evaluate(read) == pytest.approx(sums / count, rel=1e-5)
    assert np.isnan(run.evaluate([]))


def test_recomputing_changes_no_loss() -> None:
    kept, again = (stepper(replace(RECIPE, dropout=0.2, checkpointing=on)) for on in (False, True))
    for step, batch in enumerate(batches(4)):
        assert kept([batch], step).loss == pytest.approx(again([batch], step).loss, rel=1e-6)
    assert list(kept.model.weights()) == list(again.model.weights())


@pytest.mark.parametrize("attention", ["explicit", "sdpa"])
def test_bfloat16_learns_what_float32_learns(attention: str) -> None:
    losses = []
    for kind in ("float32", "bfloat16"):
        run = stepper(replace(RECIPE, precision=kind, attention=attention), total=30)
        found = [run([batch], step).loss for step, batch in enumerate(batches(1) * 30)]
        assert found[-1] < 0.85 * found[0]
        assert all(w.dtype == torch.float32 for w in run.model.parameters())
        losses.append(found)
    np.testing.assert_allclose(*losses, rtol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "shape"), [("llama", "llama 3"), ("bart", "marian"), ("bert", "masked words")]
)
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # inside of PyTorch
@pytest.mark.filterwarnings("ignore:The distutils package:DeprecationWarning")  # its compiler, too
def test_compiled_is_one_graph_and_eager_to_rounding(family: str, shape: str) -> None:
    case = config(family, shape)
    eager, fast = (
        stepper(replace(RECIPE, compile=on), model=fresh(case, 1)) for on in ("off", "on")
    )
    for step, batch in enumerate(batches(2)):
        if case.kind == "encoder-decoder":
            batch = replace(
                batch,
                source=batch.ids,
                source_positions=batch.positions,
                source_documents=batch.documents,
            )
        losses = [run([batch], step).loss for run in (eager, fast)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_fresh_model_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    one = dict(weights(fresh(config(), 7)))
    torch.manual_seed(2)
    two, other = dict(weights(fresh(config(), 7))), dict(weights(fresh(config(), 8)))
    assert {at: array.shape for at, array in one.items()} == parameters(config())
    assert all(np.array_equal(one[at], two[at]) for at in one)
    assert not np.array_equal(one["embedding.tokens.weight"], other["embedding.tokens.weight"])


@pytest.mark.parametrize(
    ("family", "shape"),
    [("gpt2", "plain"), ("gemma", "local and global"), ("t5", "v1.1"), ("bert", "masked words")],
)
def test_a_fresh_model_guesses_nothing_yet(family: str, shape: str) -> None:
    """Every word about as likely as any other: a loss of log(vocabulary), and no dead weights."""
    case = config(family, shape)
    run = stepper(replace(RECIPE, optimiser=OptimiserRecipe(name="adamw")), model=fresh(case, 1))
    read = batches(1)[0]
    if case.kind == "encoder-decoder":
        read = replace(
            read,
            source=read.ids,
            source_positions=read.positions,
            source_documents=read.documents,
        )
    assert run([read], 0).loss == pytest.approx(np.log(case.vocab_size), abs=0.5)
    for address, array in weights(run.model):
        assert np.isfinite(array).all(), address


def test_a_checkpoint_s_model_is_its_engine_s() -> None:
    case = golden("gpt2", "plain")
    model = from_checkpoint(case.checkpoint)
    with torch.no_grad():
        found = model(case.ids, ForwardContext())
    torch.testing.assert_close(found, case.our_output(case.engine()), rtol=1e-5, atol=1e-5)
    assert all(w.requires_grad and w.is_contiguous() for w in model.parameters())


def test_an_adapted_model_learns_its_adapter_alone() -> None:
    from lucidlm.train.lora import adapt

    model = fresh(config(), 1)
    adapt(model, LoraRecipe(rank=2))
    before = dict(copy.deepcopy(dict(weights(model))))
    run = stepper(RECIPE, model=model)
    for step, batch in enumerate(batches(2)):
        run([batch], step)
    moved = {at for at, array in weights(model) if not np.array_equal(array, before[at])}
    assert moved and all(".lora_" in at for at in moved)


def test_compiling_is_for_long_runs() -> None:
    model = fresh(config(), 1)
    for told, wanted in (("on", True), ("off", False), ("auto", False)):
        assert compiles(model, replace(RECIPE, compile=told), CPU, 1000) is wanted
    assert compiles(model, replace(RECIPE, context=1 << 40), CPU, 1000)


def test_bfloat16_is_chosen_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for has in (True, False):
        found = {"avx512_bf16": has}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert (precision("auto", CPU) == torch.bfloat16) is has
    assert precision("float32", CPU) == torch.float32


def test_the_environment_is_of_strings_and_needs_no_torch() -> None:
    assert all(isinstance(value, str) for value in environment().values())
    script = "import sys, lucidlm.train.environment as e; e.environment(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "torch" not in done.stdout.split()
