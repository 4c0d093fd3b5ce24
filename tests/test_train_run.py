"""A whole run: it learns, says what it does, and leaves a model that others open too."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import recipes
import tiny
import torch
import transformers
from recipes import one_thread  # noqa: F401

from lucidlm import load
from lucidlm.engine import ForwardContext
from lucidlm.parameters import parameters
from lucidlm.train.events import Event, Exported, Preparing, Ready, Sampled, Saved, Stepped
from lucidlm.train.loop import Outcome, plan, train
from lucidlm.train.recipe import Recipe, build_recipe

Run = tuple[Recipe, Path, Outcome, list[Event]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A character model of the package's English text, 120 steps."""
    base = tmp_path_factory.mktemp("recipe")
    recipe, events = recipes.read(base), []
    outcome = train(recipe, base / "run", base=base, watch=events.append)
    return recipe, base / "run", outcome, events


def test_it_learns_more_than_how_frequent_each_character_is(run: Run) -> None:
    """The entropy of the held-out text under its own character frequencies is a bound that no
    model without context passes.
    """
    recipe, folder, outcome, _ = run
    text = (folder.parent / "held_out.txt").read_text(encoding="utf-8")
    shares = [n / len(text) for n in Counter(text).values()]
    entropy = -sum(share * math.log(share) for share in shares)
    assert outcome.held_out is not None and outcome.held_out < entropy
    assert outcome.reason == "done" and outcome.steps == recipe.steps


def test_it_tells_what_it_does_in_order(run: Run) -> None:
    recipe, _, outcome, events = run
    kinds = [type(event) for event in events if not isinstance(event, Preparing)]
    assert kinds[0] is Ready and kinds[-1] is Exported
    steps = [event for event in events if isinstance(event, Stepped)]
    assert [event.step for event in steps] == list(range(1, recipe.steps + 1))
    measured = [event.step for event in steps if event.held_out is not None]
    assert measured == [40, 80, 120]
    assert [event.step for event in events if isinstance(event, Sampled)] == [60, 120]
    assert [event.step for event in events if isinstance(event, Saved)] == [50, 100, 120]
    assert outcome.tokens == sum(event.tokens for event in steps)


def test_the_folder_holds_the_whole_run(run: Run) -> None:
    recipe, folder, outcome, _ = run
    assert len(recipes.losses(folder)) == recipe.steps
    assert recipes.losses(folder)[-1] == outcome.loss
    assert json.loads((folder / "recipe.json").read_text())["steps"] == recipe.steps
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == ["step-000050", "step-000100", "step-000120"]  # `keep` before the last
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_the_model_opens_in_lucidlm(run: Run) -> None:
    _, folder, _, _ = run
    model = load(str(folder / "model"))
    assert model.generate("The ", max_new_tokens=8).text
    trace = model.trace("The cat", keep=["*.pattern"])
    assert trace["layers.1.attention.pattern"].shape[-1] == len(model.tokenizer.encode("The cat"))


def test_transformers_get_the_same_logits(run: Run) -> None:
    _, folder, _, _ = run
    text = "The cat sat"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    ours = load(str(folder / "model"))
    ids = ours.tokenizer.encode(text)
    assert tokenizer(text)["input_ids"] == ids
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    found = ours.engine.step([ids], ForwardContext(every_position=True))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_plan_measures_and_leaves_nothing(tmp_path: Path) -> None:
    recipe = recipes.read(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    planned = plan(recipe, tmp_path)
    assert planned.seconds == pytest.approx(recipe.steps * planned.seconds_per_step)
    assert planned.tokens_per_second > 0 and planned.peak_flops > 1e9
    assert planned.memory.needed > 16 * planned.parameters / 2
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    json.dumps(asdict(planned))


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path: Path) -> None:
    """Without decay the schedule is the same, so the first steps are too."""
    short = recipes.read(tmp_path, steps=6, schedule__decay="none")
    train(short, tmp_path / "a", base=tmp_path)
    long = recipes.read(tmp_path, steps=9, schedule__decay="none")
    outcome = train(long, tmp_path / "a", base=tmp_path, resume=True)
    assert outcome.resumed_from == 6 and outcome.steps == 9
    train(long, tmp_path / "b", base=tmp_path)
    assert recipes.losses(tmp_path / "a") == recipes.losses(tmp_path / "b")


def test_accumulation_and_adamw(tmp_path: Path) -> None:
    """Two micro-batches a step count as twice the tokens."""
    recipe = recipes.read(tmp_path, steps=3, accumulate=2, batch=4, optimiser__name="adamw")
    outcome = train(recipe, tmp_path / "run", base=tmp_path)
    assert outcome.tokens == pytest.approx(3 * 8 * recipe.context, rel=0.1)


PAIRS = [
    ("红", "red"),
    ("蓝", "blue"),
    ("狗", "dog"),
    ("猫", "cat"),
    ("好", "good"),
    ("书", "book"),
]


def test_a_translator_is_learnt_and_translates(tmp_path: Path) -> None:
    rows = [json.dumps({"source": zh, "target": en}, ensure_ascii=False) for zh, en in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows), encoding="utf-8")
    shape = {"d_model": 32, "activation_function": "relu", "max_position_embeddings": 32}
    for side in ("encoder", "decoder"):
        shape |= {f"{side}_layers": 1, f"{side}_attention_heads": 4, f"{side}_ffn_dim": 64}
    recipe = recipes.read(
        tmp_path,
        objective="translate",
        steps=150,
        batch=4,
        context=16,
        samples=["狗"],
        model__family="marian",
        model__config=shape,
        tokenizer__kind="bpe",
        tokenizer__vocab_size=320,
        data__train=[{"path": "pairs.jsonl"}],
        data__held_out=None,
        data__held_out_share=0.0,
        optimiser__rate=0.003,
    )
    train(recipe, tmp_path / "run", base=tmp_path)
    model = load(str(tmp_path / "run" / "model"))
    assert [model.translate(zh, max_new_tokens=8).text.strip() for zh, _ in PAIRS] == [
        en for _, en in PAIRS
    ]
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run" / "model")
    ids = torch.tensor([model.tokenizer.encode("狗")])
    written = theirs.generate(ids, max_new_tokens=8, num_beams=1, do_sample=False)[0].tolist()
    assert model.tokenizer.decode(written).strip() == "dog"


def test_an_encoder_is_learnt_and_fills_in(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("我很开心\n你很高兴\n他很难过\n" * 40, encoding="utf-8")
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    recipe = recipes.read(
        tmp_path,
        objective="mask",
        steps=20,
        batch=4,
        context=16,
        samples=["我很[MASK]心"],
        model__family="bert",
        model__config=shape | {"num_attention_heads": 4, "max_position_embeddings": 32},
        data__train=[{"path": "lines.txt", "lines": True}],
        data__held_out=None,
    )
    events: list[Event] = []
    train(recipe, tmp_path / "run", base=tmp_path, watch=events.append)
    assert load(str(tmp_path / "run" / "model")).fill("我很[MASK]心")[0].words


def test_adapters_are_learnt_beside_a_model_that_stays(tmp_path: Path) -> None:
    """LoRA on answers of a chat: a merged model, and the adapter, which alone is kept."""
    start = tiny.build(tmp_path / "start", "llama", chat=True)
    rows = [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}
        for a, b in [("The cat", "sat on the mat"), ("The dog", "sat on the cat")]
    ]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    told = {
        "name": "chatter",
        "steps": 30,
        "batch": 2,
        "context": 32,
        "model": {"start": "start"},
        "data": {"train": [{"path": "chat.jsonl"}], "held_out_share": 0.0, "loss_on": "answers"},
        "optimiser": {"name": "adamw", "rate": 0.01},
        "schedule": {"warmup": 2},
        "lora": {"rank": 4, "targets": ["query", "value"]},
    }
    recipe = build_recipe(told, tmp_path / "recipe.toml")
    outcome = train(recipe, tmp_path / "run", base=tmp_path)
    losses = recipes.losses(tmp_path / "run")
    assert losses[-1] < losses[0] - 1
    before, after = load(str(start)), load(str(outcome.model))
    for address, shape in parameters(before.config).items():
        same = np.array_equal(before.engine.weight(address), after.engine.weight(address))
        adapted = address.endswith(("query.weight", "value.weight"))
        assert same != adapted and after.engine.weight(address).shape == shape, address
    assert (tmp_path / "run" / "adapter" / "adapter.json").is_file()
    state = tmp_path / "run" / "checkpoints" / "step-000030" / "state.safetensors"
    assert state.stat().st_size < (start / "model.safetensors").stat().st_size / 2


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(recipes.read(tmp_path, steps=4), tmp_path / "run", base=tmp_path)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    losses = [event.value for event in board.Scalars("loss")]
    np.testing.assert_allclose(losses, recipes.losses(tmp_path / "run"), rtol=1e-6)
