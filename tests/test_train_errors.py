"""What can go wrong with a run: refused before its first step, or stopped with nothing lost."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import recipes
import torch
from recipes import one_thread  # noqa: F401

from lucidlm.errors import LucidError, TrainError
from lucidlm.hardware import Machine
from lucidlm.locale import LANGUAGES
from lucidlm.train import checkpoints, loop
from lucidlm.train.estimate import memory
from lucidlm.train.events import Stepped
from lucidlm.train.health import ENOUGH, Health, diagnose
from lucidlm.train.loop import train
from lucidlm.train.recipe import Recipe
from lucidlm.train.setup import Subject, prepare
from lucidlm.train.state import gather, put_back
from lucidlm.train.step import Stepper

SHAPE = recipes.CHARACTERS["model.config"]


def said(error: LucidError) -> str:
    """The sentence in English; there is one in Chinese too."""
    english, chinese = (error.message(lang) for lang in LANGUAGES)
    assert english != chinese and re.search("[\u4e00-\u9fff]", chinese)
    assert "{" not in english + chinese
    return english


def refused(recipe: Recipe, base: Path, **options: Any) -> str:
    """Why `recipe` is refused, without a step."""
    steps = []
    with pytest.raises(LucidError) as caught:
        train(recipe, base / "run", base=base, watch=steps.append, **options)
    assert not [event for event in steps if isinstance(event, Stepped)]
    return said(caught.value)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished short run, its recipe in the folder above."""
    base = tmp_path_factory.mktemp("recipe")
    recipe = recipes.read(base, steps=6, save_every=2, keep=9, samples=[])
    train(recipe, base / "run", base=base)
    return base / "run"


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    shutil.copytree(begun.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def resumed(run: Path, **changes: Any) -> str:
    told = {"steps": 8, "save_every": 2, "keep": 9, "samples": []} | changes
    return refused(recipes.read(run.parent, **told), run.parent, resume=True)


# -- before the first step -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"objective": "translate"}, "kind of encoder-decoder; this one is a kind of decoder"),
        ({"context": 65}, "64 positions"),
        ({"model__config": SHAPE | {"vocab_size": 5}}, "vocab_size"),
        ({"model__config": SHAPE | {"n_head": 7}}, "7"),
        ({"model__config": SHAPE | {"layers": 1}}, "layers"),
        ({"model__family": "lama"}, "lama"),
    ],
)
def test_a_model_that_cannot_be(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    assert says in refused(recipes.read(tmp_path, **changes), tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how much memory this machine has to give."""

    def give(size: int) -> None:
        machine = Machine(cores=1, memory=size, available=size)
        monkeypatch.setattr(loop, "here", lambda: machine)

    return give


def test_too_large_a_run_is_refused_with_what_would_fit(
    free: Callable[[int], None], tmp_path: Path
) -> None:
    free(200_000_000)
    recipe = recipes.read(tmp_path, batch=4096)
    sentence = refused(recipe, tmp_path)
    advice = re.findall(r"--set (\S+)=(\S+?)(?= |\.| /)", sentence)
    assert ("checkpointing", "true") in advice or advice[0][0] == "batch"
    batch = int(dict(advice)["batch"])
    accumulate = int(dict(advice)["accumulate"])
    assert batch * accumulate == recipe.batch
    smaller = replace(recipe, batch=batch, accumulate=accumulate, steps=1, evaluate_rows=1)
    train(replace(smaller, accumulate=1), tmp_path / "run", base=tmp_path)


def test_a_model_too_large_for_any_setting(free: Callable[[int], None], tmp_path: Path) -> None:
    free(1_000_000)
    assert "smaller model" in refused(recipes.read(tmp_path), tmp_path)


def test_other_folders_are_left_alone(run: Path, tmp_path: Path) -> None:
    recipe = recipes.read(run.parent)
    assert "--resume" in refused(recipe, run.parent)
    other = tmp_path / "other"
    (other / "run").mkdir(parents=True)
    (other / "run" / "letter.txt").write_text("dear")
    assert "not an empty folder" in refused(recipes.read(other), other)
    assert "no recipe.json" in refused(recipes.read(other), other, resume=True)
    assert [path.name for path in (other / "run").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 2}, "seed"),
        ({"batch": 16}, "batch"),
        ({"dropout": 0.5}, "dropout"),
        ({"optimiser__rate": 0.5}, "optimiser.rate"),
        ({"optimiser__name": "adamw"}, "optimiser.name"),
        ({"model__config": SHAPE | {"n_layer": 3}}, "model.config.n_layer"),
        ({"tokenizer__vocab_size": 300}, "tokenizer.vocab_size"),
        ({"data__pack": False}, "data.pack"),
    ],
)
def test_another_recipe_is_refused_by_name(run: Path, changes: dict[str, Any], key: str) -> None:
    assert f"begun with {key} = " in resumed(run, **changes)


def test_other_data_are_refused(run: Path) -> None:
    told = {"steps": 8, "save_every": 2, "samples": []}
    recipe = recipes.read(run.parent, **told)
    path = run.parent / "text.txt"
    path.write_text(path.read_text() + "And one line more.\n")
    assert "data" in refused(recipe, run.parent, resume=True)


def test_what_does_not_change_the_numbers_may_change(run: Path) -> None:
    changes = {"steps": 8, "evaluate_every": 3, "name": "other", "schedule__decay": "cosine"}
    outcome = train(recipes.read(run.parent, **changes), run, base=run.parent, resume=True)
    assert (outcome.resumed_from, outcome.steps) == (6, 8)


# -- checkpoints -----------------------------------------------------------------------------------


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "weights cut short": lambda place: half(place / "state.safetensors"),
    "weights gone": lambda place: (place / "state.safetensors").unlink(),
    "json cut short": lambda place: half(place / "state.json"),
    "json gone": lambda place: (place / "state.json").unlink(),
    "json of a list": lambda place: (place / "state.json").write_text("[]") and None,
    "unfinished": lambda place: place.rename(place.parent / f".unfinished-{place.name}") and None,
    "not ours": lambda place: place.rename(place.parent / "step-000006-copy") and None,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_not_whole_is_no_checkpoint(run: Path, damage: str) -> None:
    before = recipes.losses(run)
    DAMAGE[damage](run / "checkpoints" / "step-000006")
    recipe = recipes.read(run.parent, steps=6, save_every=2, keep=9, samples=[])
    outcome = train(recipe, run, base=run.parent, resume=True)
    assert outcome.resumed_from == 4
    assert recipes.losses(run) == before


def test_a_damaged_header_is_named(run: Path) -> None:
    """Of full length, and no safetensors all the same."""
    path = run / "checkpoints" / "step-000006" / "state.safetensors"
    data = path.read_bytes()
    path.write_bytes(b"\xff" * 8 + data[8:])
    assert "step-000006" in resumed(run)


def test_a_state_of_another_model_is_refused(run: Path, subject: Subject) -> None:
    """Nothing of it is put anywhere."""
    model = subject.model()
    stepper = Stepper(model, subject.recipe, device=torch.device("cpu"), total_steps=1)
    before = {name: array.copy() for name, array in gather(model, stepper).items()}
    arrays = checkpoints.newest(run).arrays()
    name = "weight.layers.0.attention.query.weight"
    for wrong in (
        arrays | {name: arrays[name][:1]},
        {n: a for n, a in arrays.items() if n != name},
    ):
        with pytest.raises(TrainError) as caught:
            put_back(model, stepper, wrong)
        assert name in said(caught.value)
    assert all((array == before[name]).all() for name, array in gather(model, stepper).items())


def test_metrics_are_cut_to_the_checkpoint(run: Path) -> None:
    """Lines behind it, and half a line, are of a future that did not happen."""
    shutil.rmtree(run / "checkpoints" / "step-000006")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 7, "loss": 9.0, "held')
    recipe = recipes.read(run.parent, steps=5, save_every=2, keep=9, samples=[])
    train(recipe, run, base=run.parent, resume=True)
    assert len(recipes.losses(run)) == 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_takes_no_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    """The second checkpoint is not written: the first is whole, and the run goes on from it."""
    recipe = recipes.read(tmp_path, steps=6, save_every=2, samples=[])
    write, calls = checkpoints._write, []

    def full(path: Path, data: bytes) -> int:
        calls.append(path)
        if len(calls) > 2:
            write(path, data[: len(data) // 2])
            raise OSError(number, os.strerror(number))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_write", full)
        with pytest.raises(TrainError) as caught:
            train(recipe, tmp_path / "run", base=tmp_path)
    assert ("full" in said(caught.value)) == (number == errno.ENOSPC)
    assert [one.step for one in checkpoints.complete(tmp_path / "run")] == [2]
    held = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert held == ["step-000002"]
    outcome = train(recipe, tmp_path / "run", base=tmp_path, resume=True)
    assert outcome.resumed_from == 2 and len(recipes.losses(tmp_path / "run")) == 6


# -- health ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    base = tmp_path_factory.mktemp("recipe")
    return prepare(recipes.read(base), base, lambda stage, share: None)


@pytest.mark.parametrize(
    ("address", "site", "fault"),
    [
        ("layers.1.feedforward.up.weight", "layers.1.feedforward.up", "value"),
        ("layers.0.attention.key.weight", "layers.0.attention.products", "value"),
        ("embedding.tokens.weight", "layers.0.attention_norm.input", "value"),
    ],
)
def test_the_first_site_that_is_no_number_is_named(
    subject: Subject, address: str, site: str, fault: str
) -> None:
    """A weight of 1e38 is a number; what is computed with it is not."""
    model = subject.model()
    with torch.no_grad():
        model.weights()[address].mul_(1e38).add_(3e38 if "embedding" in address else 0)
    found = diagnose(model, [subject.corpus.train.batch(0)], torch.float32)
    assert found.fault == fault and found.site.startswith(site.rpartition(".")[0])
    assert all(math.isfinite(size) for _, size in found.before)


def test_a_weight_that_is_no_number_is_named(subject: Subject) -> None:
    model = subject.model()
    with torch.no_grad():
        model.weights()["layers.1.attention.output.weight"][0, 0] = math.nan
    found = diagnose(model, [subject.corpus.train.batch(0)], torch.float32)
    assert (found.fault, found.site) == ("weight", "layers.1.attention.output.weight")


def test_a_gradient_that_is_no_number_is_named(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sqrt at 0 has an infinite slope, and the value itself is fine."""
    model = subject.model()
    layer = model.decoder.layers[1].feedforward
    forward = layer.forward
    monkeypatch.setattr(
        layer, "forward", lambda x, ctx: forward(x, ctx) + (x * 0).abs().sqrt().sum() * 0
    )
    found = diagnose(model, [subject.corpus.train.batch(0)], torch.float32)
    assert found.fault == "gradient" and found.site.startswith("layers.")


def test_nothing_is_found_in_a_healthy_model(subject: Subject) -> None:
    model = subject.model()
    found = diagnose(model, [subject.corpus.train.batch(0)], torch.float32)
    assert found.fault == "nothing" and len(found.before) == 3
    assert all(weight.grad is None for weight in model.weights().values())


def test_a_run_that_breaks_keeps_its_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipes.read(tmp_path, steps=9, save_every=3, samples=[])
    update = Stepper.__call__

    def breaks(self: Stepper, batches: Any, step: int) -> Any:
        if step == 4:
            with torch.no_grad():
                self.model.weights()["layers.0.feedforward.up.weight"].mul_(1e38)
        return update(self, batches, step)

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "__call__", breaks)
        with pytest.raises(TrainError) as caught:
            train(recipe, tmp_path / "run", base=tmp_path)
    sentence = said(caught.value)
    assert "step 5" in sentence and "layers.0.feedforward" in sentence and "step 3" in sentence
    assert [one.step for one in checkpoints.complete(tmp_path / "run")] == [3]
    assert len(recipes.losses(tmp_path / "run")) == 4
    assert train(recipe, tmp_path / "run", base=tmp_path, resume=True).reason == "done"


def test_an_explosion_ends_the_run(tmp_path: Path) -> None:
    """Rates that no model stands, by themselves."""
    recipe = recipes.read(
        tmp_path, steps=60, optimiser__name="adamw", optimiser__rate=30.0, optimiser__clip=0.0,
        schedule__warmup=40,
    )  # fmt: skip
    with pytest.raises(TrainError) as caught:
        train(recipe, tmp_path / "run", base=tmp_path)
    assert "optimiser.rate" in said(caught.value)


def test_what_an_explosion_is() -> None:
    """More than thrice the median and worse than guessing; a bad batch of a good model is none."""
    health = Health(vocab_size=1000)
    assert not any(health.exploded(loss) for loss in [7.0] * ENOUGH)
    assert not health.exploded(20.9) and health.exploded(21.1)
    good = Health(vocab_size=1000)
    assert not any(good.exploded(loss) for loss in [0.1] * ENOUGH)
    assert not good.exploded(6.0) and good.exploded(7.0)
    early = Health(vocab_size=1000)
    assert not any(early.exploded(loss) for loss in [7.0] * (ENOUGH - 1) + [100.0])


# -- memory ----------------------------------------------------------------------------------------


def test_more_of_anything_needs_more(subject: Subject) -> None:
    recipe, options = subject.recipe, {"narrow": False, "explicit": True}
    config = replace(subject.config, decoder=replace(subject.config.decoder, layers=8))
    least = memory(config, recipe, **options).needed
    for name, value in {"batch": 64, "context": 64, "dropout": 0.1}.items():
        assert memory(config, replace(recipe, **{name: value}), **options).needed > least
    whole = replace(recipe, batch=512)
    again = replace(whole, checkpointing=True)
    assert memory(config, again, **options).needed < memory(config, whole, **options).needed
