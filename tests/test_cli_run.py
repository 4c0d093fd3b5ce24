"""`run`, `translate` and `fill` on tiny models: streams, JSON, stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from lucidlm import api
from lucidlm.classical import dog
from lucidlm.cli.main import main
from lucidlm.engine import ForwardContext
from lucidlm.terminal.steps import spread

KEYS = [
    "model",
    "prompt",
    "text",
    "tokens",
    "prompt_tokens",
    "seconds",
    "tokens_per_second",
    "stop_reason",
]
TOKEN = ["id", "text", "bytes", "probability", "alternatives"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {kind: str(tiny.build(root / kind, kind)) for kind in tiny.SHAPES}


@pytest.fixture(scope="module")
def ngram(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ngram") / "dog.ngram"
    dog.model(4).save(path)
    return str(path)


def answer(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """The one JSON object that a command prints, and nothing beside it."""
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("kind", ["llama", "gpt2", "marian"])
def test_json_is_what_the_library_says(folders: dict[str, str], capsys: Capture, kind: str) -> None:
    found = answer(capsys, "run", "The 猫", "--model", folders[kind], "--max-new-tokens", "6")
    model = api.load(folders[kind])
    expected = model.generate("The 猫", max_new_tokens=6, alternatives=5)
    assert list(found) == KEYS
    assert (found["model"], found["prompt"], found["text"]) == (
        folders[kind],
        "The 猫",
        expected.text,
    )
    assert found["prompt_tokens"] == expected.prompt_tokens
    assert found["stop_reason"] == expected.stop_reason
    for token, theirs in zip(found["tokens"], expected.tokens, strict=True):
        assert list(token) == TOKEN
        assert (token["id"], bytes(token["bytes"])) == (theirs.id, theirs.bytes)
        assert token["probability"] == pytest.approx(theirs.probability)
        assert [a["id"] for a in token["alternatives"]] == [a.id for a in theirs.alternatives]
        assert len(token["alternatives"]) == 5 and list(token["alternatives"][0]) == [
            "id",
            "text",
            "probability",
        ]
        assert "\ufffd" not in json.dumps(token, ensure_ascii=False)
    assert found["tokens_per_second"] == pytest.approx(len(found["tokens"]) / found["seconds"])


def test_the_stream_is_the_same_text(folders: dict[str, str], capsys: Capture) -> None:
    options = ["run", "The cat", "--model", folders["llama"], "--max-new-tokens", "20"]
    whole = answer(capsys, *options)["text"]
    assert main(options) == 0
    out, err = capsys.readouterr()
    assert out == whole + "\n" and err == ""


def test_every_option_reaches_the_sampler(
    folders: dict[str, str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    original = api.Model.generate

    def spy(self: api.Model, prompt: str, **options: Any) -> Any:
        seen.update(options)
        return original(self, prompt, **options)

    monkeypatch.setattr(api.Model, "generate", spy)
    options = {
        "max_new_tokens": 3, "temperature": 0.7, "top_k": 5, "top_p": 0.9, "min_p": 0.01, "seed": 3,
        "repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.1,
    }  # fmt: skip
    given = [
        part
        for name, value in options.items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    found = answer(
        capsys, "run", "a", "--model", folders["llama"], *given,
        "--stop", "x", "--stop", "yy", "--logit-bias", "7=-5", "--logit-bias", "8=1.5",
    )  # fmt: skip
    assert len(found["tokens"]) <= 3
    del seen["alternatives"]
    assert seen == options | {"stop": ["x", "yy"], "logit_bias": {7: -5.0, 8: 1.5}}


def test_the_same_seed_gives_the_same_text(folders: dict[str, str], capsys: Capture) -> None:
    options = [
        "run",
        "The",
        "--model",
        folders["llama"],
        "--temperature",
        "1",
        "--max-new-tokens",
        "12",
    ]
    first, again, other = (
        answer(capsys, *options, "--seed", seed)["text"] for seed in ("1", "1", "2")
    )
    assert first == again != other


def test_beam_search(folders: dict[str, str], capsys: Capture) -> None:
    options = [
        "run",
        "The cat",
        "--model",
        folders["gpt2"],
        "--beams",
        "3",
        "--max-new-tokens",
        "5",
    ]
    text = answer(capsys, *options)["text"]
    assert main(options) == 0
    assert capsys.readouterr().out == text + "\n"
    assert text == api.load(folders["gpt2"]).generate("The cat", beams=3, max_new_tokens=5).text


@pytest.mark.parametrize("kind", ["llama", "gpt2", "marian"])
def test_stages_are_the_models_own_numbers(
    folders: dict[str, str], capsys: Capture, kind: str
) -> None:
    """Each against the same site of a forward pass of its own, without a cache."""
    found = answer(
        capsys, "run", "The cat", "--steps", "--model", folders[kind], "--max-new-tokens", "3"
    )
    model = api.load(folders[kind])
    assert found["text"] == model.generate("The cat", max_new_tokens=3, beams=1).text
    read = model.tokenizer.encode("The cat")
    ids, source = ([model.hints.decoder_start], read) if kind == "marian" else (read, None)
    for token in found["tokens"]:
        sites = _sites(model, ids, source)
        layers = token["stages"]["layers"]
        assert token["stages"]["input"]["length"] == pytest.approx(
            np.linalg.norm(sites["layers.0.residual_in"][0, -1]), rel=1e-4
        )
        for i, layer in enumerate(layers):
            at = f"layers.{i}"
            pattern = sites[f"{at}.attention.pattern"][0, :, -1]
            for link in layer["links"]:
                assert link["weight"] == pytest.approx(
                    pattern[link["head"], link["position"]], abs=1e-4
                )
                assert link["weight"] == pytest.approx(pattern[:, link["position"]].max(), abs=1e-4)
            assert layer["links"][0]["weight"] == pytest.approx(pattern.max(), abs=1e-4)
            for name, site in (
                ("before", "residual_in"),
                ("attention_added", "attention.output"),
                ("sum", "attention_norm.added"),
                ("feedforward_added", "feedforward.output"),
                ("after", "residual_out"),
            ):
                value = sites[f"{at}.{site}"][0, -1]
                assert layer[name]["length"] == pytest.approx(np.linalg.norm(value), rel=1e-3), name
                assert layer[name]["first"] == pytest.approx(value[:5].tolist(), abs=1e-3), name
            inner = sites.get(f"{at}.feedforward.product", sites[f"{at}.feedforward.activated"])[
                0, -1
            ]
            assert layer["units"] == inner.size
            assert layer["strongest"][0]["value"] == pytest.approx(
                inner[np.abs(inner).argmax()], abs=1e-3
            )
            assert bool(layer["source_links"]) == (kind == "marian")
        ids = [*ids, token["id"]]


def _sites(model: api.Model, ids: list[int], source: list[int] | None) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def note(path: str, name: str, value: Any) -> Any:
        seen[f"{path}.{name}".removeprefix("decoder.")] = np.asarray(value).copy()
        return value

    cache = model.engine.cache(1)
    if source is not None:
        model.engine.encode([source], ForwardContext(cache=cache))
    model.engine.step([ids], ForwardContext(cache=cache, tracer=note))
    return seen


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("kind", ["llama", "marian"])
def test_stages_drawn(folders: dict[str, str], capsys: Capture, kind: str, lang: str) -> None:
    options = [
        "run",
        "我爱你",
        "--steps",
        "--model",
        folders[kind],
        "--max-new-tokens",
        "2",
        "--lang",
        lang,
    ]
    assert main([*options, "--temperature", "0.8", "--seed", "1", "--top-k", "9"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "terminal." not in out and "\ufffd" not in out
    for stage in "123456":
        assert out.count(f"\n{stage} ") == 2
    assert ("new word 2" if lang == "en" else "第 2 个新词") in out
    assert ("The number drawn" if lang == "en" else "抽到的随机数") in out


def test_percentages_of_the_last_stage_account_for_the_whole_vocabulary(
    folders: dict[str, str], capsys: Capture
) -> None:
    assert (
        main(["run", "The", "--steps", "--model", folders["llama"], "--max-new-tokens", "1"]) == 0
    )
    last = capsys.readouterr().out.rpartition("\n6 ")[2]
    shares = [float(line.split(" %")[0].split()[-1]) for line in last.splitlines() if " %" in line]
    assert len(shares) == 9 and sum(shares) == pytest.approx(100, abs=0.5)


def test_layers_can_be_chosen(folders: dict[str, str], capsys: Capture) -> None:
    options = ["run", "The", "--steps", "--model", folders["llama"], "--max-new-tokens", "1"]
    assert main([*options, "--layers", "1"]) == 0
    out = capsys.readouterr().out
    assert "layer   1" in out and "layer   0" not in out and "1 of 2 layers" in out
    assert main([*options, "--layers", "2"]) == 2
    assert "0 to 1" in capsys.readouterr().err
    assert spread(30, 6) == (0, 6, 12, 17, 23, 29) and spread(4, 6) == (0, 1, 2, 3)


def test_a_counted_model_runs_and_says_that_it_has_no_layers(ngram: str, capsys: Capture) -> None:
    """The dog's language: after 跑步 the counts give 吃饭 0.6, 睡觉 0.3, 跑步 0.1."""
    found = answer(
        capsys, "run", "我 刚才 跑步，我 现在", "--model", ngram, "--max-new-tokens", "1"
    )
    (token,) = found["tokens"]
    shares = {a["text"].strip(): a["probability"] for a in token["alternatives"][:3]}
    assert shares == pytest.approx({"吃饭": 0.6, "睡觉": 0.3, "跑步": 0.1}, abs=1e-6)
    assert found["text"].strip() == "吃饭"
    assert (
        main(["run", "我 刚才 跑步，我 现在", "--model", ngram, "--steps", "--max-new-tokens", "1"])
        == 0
    )
    out = capsys.readouterr().out
    assert "no layers" in out and "60.0 %" in out


def test_translate(folders: dict[str, str], capsys: Capture) -> None:
    options = ["translate", "我爱你", "--model", folders["marian"], "--max-new-tokens", "4"]
    found = answer(capsys, *options)
    assert list(found) == KEYS and found["prompt"] == "我爱你"
    assert found["text"] == api.load(folders["marian"]).translate("我爱你", max_new_tokens=4).text
    assert main(options) == 0
    assert capsys.readouterr().out == found["text"] + "\n"


def test_fill(folders: dict[str, str], capsys: Capture) -> None:
    options = ["fill", "The [MASK] sat on [MASK].", "--model", folders["bert"], "--top", "3"]
    found = answer(capsys, *options)
    blanks = api.load(folders["bert"]).fill("The [MASK] sat on [MASK].", top=3)
    assert [[w["text"] for w in b["words"]] for b in found["blanks"]] == [
        [word for word, _ in blank.words] for blank in blanks
    ]
    assert main(options) == 0
    out = capsys.readouterr().out
    assert "blank 2" in out and "all others" in out


@pytest.mark.parametrize(
    ("command", "kind", "says"),
    [
        (["translate", "x"], "llama", "no encoder"),
        (["fill", "a [MASK]"], "llama", "not trained to fill"),
        (["fill", "nothing masked"], "bert", "no masked place"),
        (["run", "x"], "bert", "does not write"),
        (["run", ""], "llama", "empty"),
        (["run", "cat " * 80], "llama", "context holds 64"),
        (["run", "x", "--temperature", "-1"], "llama", "temperature is -1"),
        (["run", "x", "--top-p", "0"], "llama", "top_p is 0"),
        (["run", "x", "--logit-bias", "999999=1"], "llama", "999999"),
        (["run", "x", "--beams", "2", "--temperature", "1"], "llama", "does not draw"),
        (["run", "x", "--steps", "--beams", "2"], "llama", "--beams"),
        (["run", "x", "--seed", "-1"], "llama", "seed is -1"),
        (["run", "x", "--max-new-tokens", "0"], "llama", "max_new_tokens is 0"),
    ],
)
@pytest.mark.parametrize("json_too", [False, True])
def test_what_cannot_be_is_said_in_a_sentence(
    folders: dict[str, str],
    capsys: Capture,
    command: list[str],
    kind: str,
    says: str,
    json_too: bool,
) -> None:
    assert main([*command, "--model", folders[kind], *(["--json"] if json_too else [])]) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err and err.startswith("Error: ") and err.count("\n") == 1


def test_the_default_model(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The package's own answers where nothing was ever fetched."""
    monkeypatch.setenv("LUCIDLM_HOME", str(tmp_path))
    found = answer(capsys, "run", "我很", "--max-new-tokens", "2")
    assert (found["model"], found["text"]) == ("mini", "开心")


@pytest.mark.checkpoint("smollm2-135m")
def test_a_real_model_answers(capsys: Capture) -> None:
    options = ["--model", "smollm2-135m", "--max-new-tokens", "2"]
    found = answer(capsys, "run", "The capital of France is", *options)
    assert found["text"] == " Paris." and found["prompt_tokens"] == 5


@pytest.mark.checkpoint("gemma3-270m")
def test_a_real_model_answers_in_chinese(capsys: Capture) -> None:
    options = ["--model", "gemma3-270m", "--max-new-tokens", "1"]
    assert answer(capsys, "run", "今天是我的生日，我很", *options)["text"] == "开心"
