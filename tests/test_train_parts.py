"""Models without one part: each lacks what it says and nothing else, all have one budget, and the
backward pass agrees with nudging.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import one_thread  # noqa: F401
from torch.nn import functional

from lucidlm.engine import ForwardContext
from lucidlm.lessons.parts import recorded
from lucidlm.model.transformer import Transformer
from lucidlm.train.batch import Batch
from lucidlm.train.optimiser import Optimiser
from lucidlm.train.parts.backward import (
    Backward,
    backward,
    by_nudging,
    by_nudging_weight,
    tiny,
    update,
    updates,
)
from lucidlm.train.parts.material import TURN, Pairs, Text, read
from lucidlm.train.parts.run import gradient_norms, right, run, writing
from lucidlm.train.parts.settings import NAMES, SETTINGS, TRANSLATORS, WRITERS, fingerprint
from lucidlm.train.parts.variants import build, learnt
from lucidlm.train.recipe import OptimiserRecipe
from lucidlm.train.step import Stepper

SMALL = replace(
    SETTINGS,
    dim=16,
    heads=2,
    layers=2,
    context=12,
    batch=2,
    steps=4,
    warmup=1,
    words=60,
    evaluations=2,
    pair_dim=16,
    pair_batch=4,
    pair_steps=4,
)
LINES = "".join(f"{line}\n" for line in recorded.text().splitlines()[:200])
TABLE = "".join(f"{line}\n" for line in recorded.pairs().splitlines()[:80])
TRAINED = [name for name in NAMES if name != "n-gram"]
DECODERS = [name for name in WRITERS if name != "n-gram"]
IDS = [1, 2, 3, 4, 5, 6, 1]


def model(name: str, seed: int = 1, vocab_size: int = 62) -> Transformer:
    return build(name, SMALL, vocab_size, seed)


def logits(of: Transformer, ids: list[int], ctx: ForwardContext | None = None) -> torch.Tensor:
    with torch.no_grad():
        return of(torch.tensor([ids]), ctx or ForwardContext())[0]


# -- the budget -----------------------------------------------------------------------------------


def test_all_learn_as_many_parameters() -> None:
    words = Text.of(recorded.text(), SETTINGS).words.vocab_size
    counts = {name: learnt(build(name, SETTINGS, words, 1)) for name in DECODERS}
    assert max(abs(n / counts["whole"] - 1) for n in counts.values()) < 0.02, counts
    words = Pairs.of(recorded.pairs(), SETTINGS, joined=True).words.vocab_size
    one, two = (learnt(build(name, SETTINGS, words, 1)) for name in TRANSLATORS)
    assert abs(one / two - 1) < 0.02


def test_a_step_reads_the_same_rows_whoever_asks() -> None:
    one, two = (Text.of(LINES, SMALL).batch(1, 7) for _ in range(2))
    assert (one.ids == two.ids).all() and (one.targets[:, :-1] == one.ids[:, 1:]).all()
    assert (one.ids != Text.of(LINES, SMALL).batch(1, 8).ids).any()
    joined, apart = (Pairs.of(TABLE, SMALL, joined=joined) for joined in (True, False))
    assert joined.words == apart.words
    assert read(joined.batch(1, 3)) == read(apart.batch(1, 3))


def test_pairs_are_what_the_table_says() -> None:
    pairs = Pairs.of("我很忙。\tI'm busy.\n他走了。\tHe left.\n" * 10, SMALL, joined=True)
    batch = pairs.asked()
    row = batch.ids[0].tolist()
    turn = row.index(pairs.words.encode(TURN)[0])
    assert pairs.words.decode(row[:turn]) in ("我 很 忙 。", "他 走 了 。")
    target = batch.targets[0]
    assert (target[:turn] < 0).all()
    assert pairs.words.decode(target[target >= 0].tolist()) in ("i'm busy .", "he left .")
    assert read(batch) == sum(len(s) + len(t) for s, t in pairs.held_out)


def test_nothing_is_learnt_that_may_not_be() -> None:
    text, table = recorded.text(), recorded.pairs()
    assert len(text.encode()) <= 150_000 and len(table.encode()) <= 100_000
    assert "我爱你" not in text + table and "我很开心" not in table
    for lines in (text.splitlines(), [row.split("\t")[0] for row in table.splitlines()]):
        assert len(lines) == len(set(lines)), "a line twice: one could be held out"


def test_the_record_is_of_this_text_and_these_settings() -> None:
    """Else run `make parts`."""
    records = recorded.records()
    assert records.fingerprint == fingerprint(SETTINGS, recorded.text(), recorded.pairs())
    seeds = [record.seed for record in records.of("whole")]
    assert seeds and seeds == list(SETTINGS.seeds)[: len(seeds)]
    for name in NAMES:
        expected = seeds[:1] if name == "n-gram" else seeds
        assert [record.seed for record in records.of(name)] == expected, name
    words = Text.of(recorded.text(), SETTINGS).words.vocab_size
    assert records.of("whole")[0].parameters == learnt(build("whole", SETTINGS, words, 1))


def test_the_fingerprint_notices_a_change() -> None:
    prints = {
        fingerprint(SETTINGS, "a", "b"),
        fingerprint(replace(SETTINGS, rate=0.1), "a", "b"),
        fingerprint(SETTINGS, "a ", "b"),
        fingerprint(SETTINGS, "a", "c"),
    }
    assert len(prints) == 4


# -- the parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_run_runs(name: str) -> None:
    seen: list[int] = []
    record = run(name, SMALL, LINES, TABLE, 1, lambda made, steps, loss: seen.append(made))
    losses = [record.writing, *(loss for _, loss in record.held_out)]
    assert np.isfinite(losses).all() and record.tokens > 0 and len(record.top) == 5
    assert (record.right is not None) == (name in TRANSLATORS)
    if name != "n-gram":
        assert seen == [1, 2, 3, 4] and len(record.learnt) == 4 and len(record.held_out) == 2
        assert set(record.first) == set(record.last)
        assert all(norm > 0 for norm in record.first.values())
        again = run(name, SMALL, LINES, TABLE, 1)
        assert replace(again, seconds=0) == replace(record, seconds=0)


@pytest.mark.parametrize("name", DECODERS)
def test_only_without_the_mask_can_a_place_see_ahead(name: str) -> None:
    made = model(name)
    one, two = logits(made, [3, 4, 5, 6]), logits(made, [3, 4, 5, 7])
    assert torch.equal(one[:3], two[:3]) == (name != "no-mask")


@pytest.mark.parametrize("name", DECODERS)
def test_the_loss_of_writing_is_the_loss_of_reading_where_a_mask_is(name: str) -> None:
    made, asked = model(name), Text.of(LINES, SMALL).asked()
    recipe = SMALL.recipe(1, translates=False)
    stepper = Stepper(made, recipe, device=torch.device("cpu"), total_steps=1)
    close = writing(made, asked) == pytest.approx(stepper.evaluate([asked]), rel=1e-5)
    assert close == (name != "no-mask")


def test_uniform_attention_is_the_mean_of_what_is_visible() -> None:
    seen = {}

    def note(path: str, name: str, value: torch.Tensor) -> torch.Tensor:
        seen[f"{path}.{name}"] = value
        return value

    made = model("uniform")
    logits(made, [3, 4, 5, 6], ForwardContext(tracer=note))
    pattern = seen["layers.1.attention.pattern"][0, 0].numpy()
    assert pattern == pytest.approx(np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None])
    values = seen["layers.1.attention.value"][0].numpy()
    means = np.cumsum(values, 1) / np.arange(1, 5)[None, :, None]
    assert pattern @ values == pytest.approx(means, abs=1e-6)
    assert not made.get_parameter("decoder.layers.0.attention.inner.query.weight").requires_grad


def test_without_residual_a_layer_passes_on_what_it_made_alone() -> None:
    def muted(path: str, name: str, value: torch.Tensor) -> torch.Tensor:
        sublayer = name == "output" and path.endswith(("attention", "feedforward"))
        return value * 0 if sublayer else value

    ctx = ForwardContext(tracer=muted)
    lone, whole = (logits(model(name), [3, 4], ctx) for name in ("no-residual", "whole"))
    assert torch.equal(lone[0], lone[1])  # nothing of the words is left
    assert not torch.equal(whole[0], whole[1])


def test_without_norm_or_feedforward_there_are_none() -> None:
    names = [name for name, _ in model("no-norm").named_parameters()]
    assert not [name for name in names if "norm" in name]
    names = [name for name, _ in model("no-feedforward").named_parameters()]
    assert not [name for name in names if "feedforward" in name]
    assert any("attention.query" in name for name in names)


@settings(max_examples=25)
@given(st.permutations([3, 4, 5, 6]), st.integers(0, 100))
def test_without_position_one_layer_cannot_tell_the_order(order: list[int], seed: int) -> None:
    made = build("no-position", replace(SMALL, layers=1), 62, seed)
    one, two = logits(made, [3, 4, 5, 6, 7])[-1], logits(made, [*order, 7])[-1]
    assert torch.allclose(one, two, atol=1e-5)


def test_with_position_it_can() -> None:
    made = build("whole", replace(SMALL, layers=1), 62, 1)
    one, two = logits(made, [3, 4, 5, 6, 7])[-1], logits(made, [4, 3, 5, 6, 7])[-1]
    assert not torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_row_is_right_if_greedy_decoding_writes_it(name: str) -> None:
    pairs = Pairs.of(TABLE, SMALL, joined=name == "decoder-only")
    made = build(name, SMALL, pairs.words.vocab_size, 1)
    rows = []
    for wrong in (None, 0, None, 3):  # the place where a row is not what the model would write
        source = pairs.train[len(rows)][0]
        ids = opening = pairs.opening(source)
        there = torch.tensor([source]) if made.encoder is not None else None
        for _ in range(5):
            with torch.no_grad():
                following = made(torch.tensor([ids]), ForwardContext(), there)[0, -1]
            ids = [*ids, int(following.argmax())]
        target = ids[len(opening) :]
        if wrong is not None:
            target[wrong] += 1
        rows.append((source, target))
    assert right(made, replace(pairs, held_out=tuple(rows)).asked()) == 0.5


def test_a_source_is_read_without_its_padding() -> None:
    pairs = Pairs.of(TABLE, SMALL, joined=False)
    made = build("encoder-decoder", SMALL, pairs.words.vocab_size, 1)
    recipe = SMALL.recipe(1, translates=True)
    stepper = Stepper(made, recipe, device=torch.device("cpu"), total_steps=1)
    rows = [replace(pairs, held_out=(pair,)).asked() for pair in pairs.held_out]
    weights = [int((row.targets >= 0).sum()) for row in rows]
    alone = [stepper.evaluate([row]) for row in rows]
    together = stepper.evaluate([pairs.asked()])
    assert together == pytest.approx(float(np.average(alone, weights=weights)), rel=1e-5)


def test_gradient_norms_are_those_of_autograd() -> None:
    made, batch = model("whole"), Text.of(LINES, SMALL).batch(1, 0)
    stepper = Stepper(
        made, SMALL.recipe(1, translates=False), device=torch.device("cpu"), total_steps=4
    )
    expected = plainly(made, batch)
    with gradient_norms(made) as norms:
        stepper([batch], 0)
    assert norms == pytest.approx(expected, rel=1e-4)
    assert not norms.keys() ^ {"layers.0", "layers.1", "norm", "table"}


def plainly(made: Transformer, batch: Batch) -> dict[str, float]:
    ids, targets = torch.from_numpy(batch.ids), torch.from_numpy(batch.targets)
    loss = functional.cross_entropy(made(ids, ForwardContext()).flatten(0, 1), targets.flatten())
    names, weights = zip(*made.named_parameters(), strict=True)
    squares: dict[str, float] = {}
    for name, gradient in zip(names, torch.autograd.grad(loss, weights), strict=True):
        layer = ".".join(name.split(".")[1:3]) if "layers" in name else "norm"
        layer = "table" if "tokens" in name else layer
        squares[layer] = squares.get(layer, 0.0) + float(gradient.square().sum())
    return {layer: square**0.5 for layer, square in squares.items()}


# -- one step backward ----------------------------------------------------------------------------


@cache
def taught(layers: int) -> tuple[Transformer, Backward]:
    made = tiny(7, 1, layers=layers)
    return made, backward(made, IDS)


@given(st.data(), st.sampled_from([1, 2]))
def test_the_gradient_at_any_site_is_what_nudging_says(data: st.DataObject, layers: int) -> None:
    made, found = taught(layers)
    address = data.draw(st.sampled_from(sorted(found.sites)))
    gradient = found.sites[address]
    cell = tuple(data.draw(st.integers(0, size - 1)) for size in gradient.shape)
    nudged = by_nudging(made, IDS, address, cell)
    assert gradient[cell] == pytest.approx(nudged, rel=1e-5, abs=1e-8)


@given(st.data(), st.sampled_from([1, 2]))
def test_the_gradient_of_any_weight_is_what_nudging_says(data: st.DataObject, layers: int) -> None:
    made, found = taught(layers)
    address = data.draw(st.sampled_from(sorted(found.weights)))
    gradient = found.weights[address]
    cell = tuple(data.draw(st.integers(0, size - 1)) for size in gradient.shape)
    before = made.weights()[address].detach().clone()
    nudged = by_nudging_weight(made, IDS, address, cell)
    assert gradient[cell] == pytest.approx(nudged, rel=1e-5, abs=1e-8)
    assert torch.equal(made.weights()[address], before)


def test_every_tapped_value_has_its_gradient() -> None:
    made, found = taught(2)
    seen = []

    def note(path: str, name: str, value: torch.Tensor) -> torch.Tensor:
        seen.append(f"{path}.{name}")
        return value

    logits(made, IDS[:-1], ForwardContext(tracer=note))
    assert list(found.sites) == seen
    assert set(found.weights) == set(made.weights())
    expected = functional.cross_entropy(logits(made, IDS[:-1]), torch.tensor(IDS[1:]))
    assert found.loss == pytest.approx(float(expected), abs=1e-12)


def test_the_update_is_pytorchs() -> None:
    recipe = OptimiserRecipe(name="adamw", rate=1e-2, clip=0.0)
    made = tiny(7, 1)
    for told, by_torch in updates(made, IDS, "layers.0.attention.key.weight", (1, 2), recipe, 5):
        assert told.result == pytest.approx(by_torch, abs=1e-15)


def test_the_update_is_the_one_that_training_makes() -> None:
    recipe = OptimiserRecipe(name="adamw", rate=1e-2, clip=0.0)
    made = tiny(7, 1).float()
    address, cell = "layers.0.feedforward.up.weight", (2, 3)
    weight = made.weights()[address]
    optimiser = Optimiser(made.weights(), recipe, torch.float32)
    before = None
    for step in (1, 2, 3):
        loss = functional.cross_entropy(
            made(torch.tensor([IDS[:-1]]), ForwardContext())[0], torch.tensor(IDS[1:])
        )
        made.zero_grad()
        loss.backward()
        assert weight.grad is not None
        before = update(
            float(weight[cell].detach()), float(weight.grad[cell]), before, step, recipe
        )
        optimiser.step(1.0)
        assert before.result == pytest.approx(float(weight[cell].detach()), rel=1e-5)


def test_a_record_is_one_line_of_json() -> None:
    lines = recorded.RUNS.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(recorded.records().runs) + 2
    assert json.loads(lines[1].rstrip(","))["name"] == recorded.records().runs[0].name
