"""The object that `load` returns, on small models of every kind."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers
from golden import CASES
from hypothesis import given
from hypothesis import strategies as st

import lucidlm
from lucidlm.api import Model
from lucidlm.checkpoint.load import open_checkpoint, read_config
from lucidlm.checkpoint.save import save_checkpoint
from lucidlm.classical import dog
from lucidlm.errors import (
    CheckpointError,
    ConfigError,
    GenerationError,
    LucidError,
    TokenizerError,
    UnknownName,
)
from lucidlm.families import by_model_type, families
from lucidlm.text.folder import save_tokenizer
from lucidlm.text.train import train_tokenizer

KINDS = ("llama", "gpt2", "bert", "marian")

numbers = st.integers(-3, 2**70) | st.floats() | st.booleans()
scalars = st.none() | numbers | st.text(max_size=8)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=8), scalars)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        kind: tiny.build(tmp_path_factory.mktemp(kind), kind, chat=kind == "llama")
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: lucidlm.load(str(folder)) for kind, folder in folders.items()}


def test_stream_is_generate(models: dict[str, Model]) -> None:
    options: dict[str, Any] = {"max_new_tokens": 20, "temperature": 0.9, "top_p": 0.9, "seed": 3}
    for kind in ("llama", "gpt2", "marian"):
        model = models[kind]
        whole = model.generate("The cat 我", **options)
        steps = list(model.stream("The cat 我", **options))
        assert "".join(step.text for step in steps) == whole.text == str(whole)
        assert tuple(step.id for step in steps) == whole.ids
        assert whole.probabilities == tuple(step.sampled.probability for step in steps)
        assert steps[-1].finished == whole.stop_reason
        assert "\ufffd" not in whole.text


def test_translation_is_theirs(folders: dict[str, Path], models: dict[str, Model]) -> None:
    theirs = transformers.MarianMTModel.from_pretrained(folders["marian"]).eval()
    ids = models["marian"].tokenizer.encode("The cat sat")
    with torch.inference_mode():
        found = theirs.generate(
            torch.tensor([ids]),
            max_new_tokens=8,
            num_beams=3,
            do_sample=False,
            forced_eos_token_id=None,
            pad_token_id=0,
        )
    ours = models["marian"].translate("The cat sat", max_new_tokens=8, beams=3)
    assert list(ours.ids) == found[0, 1:].tolist()


def test_fill_and_embed_are_theirs(folders: dict[str, Path], models: dict[str, Model]) -> None:
    model = models["bert"]
    theirs = transformers.BertForMaskedLM.from_pretrained(folders["bert"]).eval()
    text = "the [MASK] sat on the [MASK]"
    ids = torch.tensor([model.tokenizer.encode(text)])
    with torch.inference_mode():
        out = theirs(ids, output_hidden_states=True)
    blanks = model.fill(text, top=3)
    assert len(blanks) == 2
    for blank in blanks:
        wanted = out.logits[0, blank.position].softmax(-1).topk(3)
        assert [p for _, p in blank.words] == pytest.approx(wanted.values.tolist(), rel=1e-4)
        words = [model.tokenizer.decode([id]).strip() for id in wanted.indices.tolist()]
        assert [word for word, _ in blank.words] == words
    pooled = torch.nn.functional.normalize(out.hidden_states[-1].mean(1), dim=-1)[0]
    np.testing.assert_allclose(model.embed(text), pooled.numpy(), atol=1e-5)


def test_two_threads_never_mix(models: dict[str, Model]) -> None:
    model, prompts = models["llama"], ["The cat", "我爱你", "A capital is", "on the mat"]
    alone = [model.generate(prompt, max_new_tokens=24).ids for prompt in prompts]
    found: dict[int, Any] = {}

    def run(number: int) -> None:
        found[number] = model.generate(prompts[number], max_new_tokens=24).ids

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(prompts))] == alone


def test_chat_frames_the_conversation(models: dict[str, Model]) -> None:
    model = models["llama"]
    ids = model.chat_ids([{"role": "user", "content": "The cat"}])
    assert model.tokenizer.decode(ids, skip_special=False).endswith("<user>The cat\n<assistant>")
    answer = model.chat([{"role": "user", "content": "The cat"}], max_new_tokens=5)
    messages = [{"role": "user", "content": "The cat"}]
    assert answer.ids == tuple(s.id for s in model.stream(messages, max_new_tokens=5))


@pytest.mark.parametrize(
    ("kind", "call", "says"),
    [
        ("llama", lambda m: m.translate("a"), "no encoder"),
        ("llama", lambda m: m.fill("a [MASK]"), "masked"),
        ("llama", lambda m: m.embed("a"), "encoder"),
        ("bert", lambda m: m.generate("a"), "does not write"),
        ("bert", lambda m: m.fill("the cat"), r"\[MASK\]"),
        ("bert", lambda m: m.score("the cat"), "continues text"),
        ("marian", lambda m: m.chat([{"role": "user", "content": "a"}]), "cannot chat"),
        ("llama", lambda m: m.generate(" "), "empty"),
        ("llama", lambda m: m.generate("cat " * 99), "64"),
        ("llama", lambda m: m.generate("a", temprature=1), "temprature"),
        ("llama", lambda m: m.generate("a", top_p=0), "top_p"),
        ("llama", lambda m: m.generate("a", max_new_tokens=0), "max_new_tokens"),
    ],
)
def test_what_a_model_cannot_do(models: dict[str, Model], kind: str, call: Any, says: str) -> None:
    with pytest.raises(GenerationError, match=says):
        call(models[kind])


def test_ngram_file_runs_like_a_transformer(tmp_path: Path) -> None:
    dog.model(4).save(tmp_path / "dog.ngram")
    model = lucidlm.load(str(tmp_path / "dog.ngram"))
    assert model.generate("我 刚才 跑步 我 现在", max_new_tokens=1).text == " 吃饭"


def test_saved_again_it_is_the_same(models: dict[str, Model], tmp_path: Path) -> None:
    for kind in ("llama", "marian", "bert"):
        model, folder = models[kind], tmp_path / kind
        held = model.checkpoint
        assert held is not None
        weights = dict(held.weights())
        save_checkpoint(folder, held.family, held.config, weights, held.hints)
        save_tokenizer(model.tokenizer, folder)
        again = lucidlm.load(str(folder))
        assert again.config == model.config and again.hints == model.hints
        for name, ours in weights.items():
            np.testing.assert_array_equal(ours, again.engine.weight(name))


def spoilt(folder: Path, tmp_path: Path, change: Any) -> Path:
    """A copy of a model folder whose config.json was changed."""
    copy = tmp_path / "spoilt"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(change(config)))
    return copy


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda c: c | {"hidden_size": 48}, CheckpointError, "shape"),
        (lambda c: c | {"num_hidden_layers": 3}, CheckpointError, "no tensor"),
        (lambda c: c | {"num_hidden_layers": 1}, CheckpointError, "no place"),
        (lambda c: c | {"num_hidden_layers": 10**12}, ConfigError, "layers"),
        (lambda c: c | {"hidden_size": "32"}, ConfigError, "number"),
        (lambda c: c | {"vocab_size": -1}, ConfigError, "vocab_size"),
        (lambda c: c | {"hiden_act": "silu"}, ConfigError, "hidden_act"),
        (lambda c: c | {"hidden_act": "swoosh"}, ConfigError, "swoosh"),
        (lambda c: c | {"model_type": "mamba"}, ConfigError, "mamba"),
        (lambda c: c | {"rope_parameters": {"rope_type": "yarn"}}, ConfigError, "yarn"),
        (lambda c: c | {"rope_parameters": {"rope_type": "linear"}}, ConfigError, "factor"),
        (lambda c: c | {"rope_parameters": [1]}, ConfigError, "rope"),
        (lambda c: [c], CheckpointError, "JSON object"),
    ],
)
def test_spoilt_configs(
    folders: dict[str, Path], tmp_path: Path, change: Any, error: Any, says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        lucidlm.load(str(spoilt(folders["llama"], tmp_path, change)))
    assert caught.value.message("zh") != caught.value.message("en")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            key: values | st.lists(st.lists(scalars, max_size=2), max_size=2)
            for key in (
                "eos_token_id",
                "bad_words_ids",
                "suppress_tokens",
                "num_beams",
                "length_penalty",
                "early_stopping",
                "decoder_start_token_id",
            )
        },
    )
)
def test_no_generation_config_breaks_the_reader(folders: dict[str, Path], said: Any) -> None:
    """What it says badly is not taken; what it says well is."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        shutil.copy(folders["marian"] / "config.json", copy)
        (copy / "generation_config.json").write_text(json.dumps(said))
        hints = open_checkpoint(temporary).hints
    assert all(id >= 0 for id in hints.end | hints.suppressed) and hints.beams >= 1
    end = said.get("eos_token_id")
    if type(end) is int and end >= 0:
        assert hints.end == {end}


def test_a_tokenizer_that_does_not_fit(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "model", "llama")
    larger = train_tokenizer("bpe", [*tiny.TEXT, "more words than the model has rows"] * 2, 700)
    save_tokenizer(larger, folder)
    with pytest.raises(TokenizerError, match="rows"):
        lucidlm.load(str(folder))


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="smollm2-135m"):
        lucidlm.load("smollm2-135")
    with pytest.raises(CheckpointError, match="lucidlm pull"):
        lucidlm.load("smollm2-135m")
    with pytest.raises(CheckpointError, match="no file"):
        lucidlm.load("./nowhere.gguf")
    with pytest.raises(CheckpointError, match="holds no model"):
        lucidlm.load(str(tmp_path))
    with pytest.raises(UnknownName, match="gpt3-175b"):
        read_config("gpt3-175")


@pytest.mark.parametrize("key", ["d_model", "hidden_size", "n_embd"])
def test_a_width_of_nothing_is_refused(key: str) -> None:
    """A scale by the root of it is no way round that."""
    for family in families().values():
        for hf in family.tiny.values():
            if key in hf:
                with pytest.raises(ConfigError):
                    family.read(dict(hf) | {key: 0})


@given(st.sampled_from(CASES), st.data())
def test_no_config_breaks_the_reader(case: tuple[str, str], data: Any) -> None:
    """Whatever stands in a config.json, reading it gives a config or one clear sentence."""
    hf = dict(families()[case[0]].tiny[case[1]])
    for key in data.draw(st.lists(st.sampled_from(sorted(hf)), min_size=1, max_size=3)):
        hf[key] = data.draw(values)
    try:
        family = by_model_type(hf)
        config = family.read(hf)
    except LucidError as error:
        assert str(error) and error.message("zh")
    else:
        assert family.read(family.write(config)).dim == config.dim


def test_the_file_that_was_named_is_the_one_read(folders: dict[str, Path], tmp_path: Path) -> None:
    """Not another of the same folder."""
    folder = tmp_path / "two"
    shutil.copytree(folders["llama"], folder)
    other = tiny.build(tmp_path / "other", "llama", seed=1)
    shutil.copy(other / "model.safetensors", folder / "best.safetensors")
    named = lucidlm.load(str(folder / "best.safetensors")).generate("The cat", max_new_tokens=9)
    assert named.ids == lucidlm.load(str(other)).generate("The cat", max_new_tokens=9).ids
    assert named.ids != lucidlm.load(str(folder)).generate("The cat", max_new_tokens=9).ids
    (folder / "weights.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="pickle"):
        lucidlm.load(str(folder / "weights.bin"))
    with pytest.raises(CheckpointError, match=r"config\.json beside it"):
        lucidlm.load(shutil.copy(folder / "best.safetensors", tmp_path / "alone.safetensors"))


def test_weights_are_read_only_when_asked_for(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folders["llama"], copy)
    (copy / "model.safetensors").write_bytes(b"not yet looked at")
    checkpoint = open_checkpoint(str(copy))
    with pytest.raises(CheckpointError):
        next(checkpoint.weights())
