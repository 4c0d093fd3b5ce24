"""`trace`, `sites`, `explain` and `verify` on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from lucidlm import api
from lucidlm.checkpoint.load import read_config
from lucidlm.cli.glass import parse_edit
from lucidlm.cli.main import main
from lucidlm.errors import LucidError
from lucidlm.locale import LANGUAGES
from lucidlm.trace.edits import Add, Scale, Zero
from lucidlm.trace.sites import catalogue
from lucidlm.trace.verify import Verification

Capture = pytest.CaptureFixture[str]
KINDS = ("llama", "gpt2", "bert", "marian")
CELLS = {
    "llama": "layers.1.attention.pattern[head=1, query=3, key=2]",
    "gpt2": "layers.0.attention_norm.input.scale[position=2]",
    "bert": "head.logits[position=2, word=20]",
    "marian": "decoder.layers.0.cross_attention.mixed[position=0, head=1, head_dim=3]",
}
PROMPT = "The cat sat. 鱼"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {kind: str(tiny.build(tmp_path_factory.mktemp(kind), kind)) for kind in KINDS}


def answer(capsys: Capture, *arguments: str, code: int = 0) -> Any:
    """The one JSON value that a command prints, and nothing beside it."""
    assert main([*arguments, "--json"]) == code
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    return json.loads(out)


def shown(capsys: Capture, *arguments: str, code: int = 0) -> str:
    assert main(list(arguments)) == code
    out, err = capsys.readouterr()
    assert err == "" and "glass." not in out and "\ufffd" not in out and "\x1e" not in out
    return out


# -- sites -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_sites_lists_the_catalogue(capsys: Capture, models: dict[str, str], kind: str) -> None:
    found = answer(capsys, "sites", models[kind])
    known = catalogue(read_config(models[kind]))
    assert [row["address"] for row in found] == list(known)
    for row in found:
        site = known[row["address"]]
        assert row["axes"] == list(site.axes) and row["sizes"] == list(site.sizes)
        assert row["kind"] == site.operation.kind and row["equation"] == site.equation
        assert row["words"] and row["label"] and row["derived"] is site.derived
    for lang in LANGUAGES:
        out = shown(capsys, "sites", models[kind], "--lang", lang)
        assert "layers.*.attention.pattern ×2" in out and "head_dim 8" in out


def test_sites_of_a_model_that_is_not_here(capsys: Capture) -> None:
    """From the config of a preset; 175 billion weights are not read."""
    found = answer(capsys, "sites", "gpt3-175b", "*.attention.pattern")
    assert len(found) == 96 and found[95]["sizes"] == [96, "positions", "positions"]
    assert "×96" in shown(capsys, "sites", "gpt3-175b", "*.attention.pattern")
    words = {
        lang: answer(capsys, "sites", "gpt3-175b", "head.logits", "--lang", lang)[0]["words"]
        for lang in LANGUAGES
    }
    assert words["en"].isascii() and not words["zh"].isascii()


def test_sites_says_what_the_letters_mean_that_it_shows(
    capsys: Capture, models: dict[str, str]
) -> None:
    last = {
        pattern: " ".join(
            shown(capsys, "sites", models[kind], pattern).partition("\n\n")[2].split()
        )
        for kind, pattern in (
            ("llama", "head.logits"),
            ("llama", "*.value"),
            ("marian", "decoder.layers.0.cross_attention.key"),
            ("bert", "tokenizer.text"),
        )
    }
    assert [("T is" in said, "S is" in said, "layers.*" in said) for said in last.values()] == [
        (True, False, False),
        (True, False, True),
        (False, True, False),
        (False, False, False),
    ]


def test_sites_of_what_has_none(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "dog.ngram"
    file.write_bytes(b"")
    for ask, said in (
        (("sites", str(file)), "no layers, no sites"),
        (("trace", "king", "--model", "glove-6b-50d"), "lucidlm analogy"),
    ):
        assert main(list(ask)) == 2
        out, err = capsys.readouterr()
        assert out == "" and said in err


def test_sites_that_do_not_exist(capsys: Capture) -> None:
    for pattern in ("layers.0.attention.patern", "*.attention.patern"):
        assert main(["sites", "gpt3-175b", pattern]) == 2
        out, err = capsys.readouterr()
        assert out == "" and "attention.pattern" in err


# -- explain ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_explain(capsys: Capture, models: dict[str, str], kind: str) -> None:
    ask = ("explain", PROMPT, CELLS[kind], "--model", models[kind])
    found = answer(capsys, *ask, "--depth", "1")
    assert found["address"] == CELLS[kind] and found["agrees"] is True
    assert found["total"] == pytest.approx(found["value"], rel=1e-4)
    shares = [term["value"] for term in found["terms"]]
    assert all(
        np.prod([f["value"] for f in t["factors"]]) == pytest.approx(t["value"])
        for t in found["terms"]
    )
    assert shares and found["inner"] and found["rest"]["count"] >= 0
    assert (found["why"] is not None) == (kind == "bert")
    for lang in LANGUAGES:
        out = shown(capsys, *ask, "--depth", "1", "--lang", lang)
        assert found["equation"] in out and found["inner"][0]["address"] in out
        assert "✓" in out and "✗" not in out
        for term in found["terms"][:3]:
            assert all(factor["address"] in out for factor in term["factors"])


def test_explain_says_why_a_word_was_as_probable_as_it_was(
    capsys: Capture, models: dict[str, str]
) -> None:
    for cell in ("sampling.probabilities[-1, 100]", "head.logits[-1, 100]"):
        ask = ("explain", "The capital of France", cell, "--model", models["llama"])
        found = answer(capsys, *ask)["why"]
        model = api.load(models["llama"])
        step = next(iter(model.stream("The capital of France", max_new_tokens=1)))
        assert found["id"] == 100 and found["position"] == step.position
        assert found["probability"] == pytest.approx(step.sampled.plain_probabilities[100])
        assert len(found["removed"]) == found["earlier"] == step.position
        out = shown(capsys, *ask)
        assert all(sentence.split()[0] in out for sentence in found["words"])


def test_explain_says_where_a_weight_is_stored(capsys: Capture, models: dict[str, str]) -> None:
    ask = ("explain", PROMPT, "layers.0.attention.query[1, 0, 2]", "--model", models["llama"])
    inner = answer(capsys, *ask, "--depth", "1")["inner"]
    weight = next(one for one in inner if one["kind"] == "parameter")
    assert weight["stored_as"] == "model.layers.0.self_attn.q_proj.weight"
    assert weight["stored_as"] in shown(capsys, *ask, "--depth", "1")


def test_explain_prints_a_script_that_makes_the_number(
    capsys: Capture, models: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "operands.npz"
    ask = ("explain", PROMPT, CELLS["llama"], "--model", models["llama"])
    value = answer(capsys, *ask)["total"]
    script = shown(capsys, *ask, "--numpy", str(file))
    made = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert float(made.stdout) == value
    assert answer(capsys, *ask, "--numpy", str(file)) == {"operands": str(file), "program": script}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("layers.0.attention.pattern", "head, query, key"),
        ("layers.0.attention.patern[0,0,0]", "layers.0.attention.pattern"),
        ("layers.0.residual_in[99, 0]", "from 0 to"),
        ("layers.0.residual_in[a][b]", "not an address"),
    ],
)
def test_explain_refuses_what_names_no_number(
    capsys: Capture, models: dict[str, str], address: str, said: str
) -> None:
    assert main(["explain", PROMPT, address, "--model", models["llama"]]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err


def test_explain_refuses_a_depth_below_nothing(capsys: Capture) -> None:
    assert main(["explain", PROMPT, "embedding.sum[0, 0]", "--depth", "-1"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "--depth is -1" in err


# -- verify ----------------------------------------------------------------------------------------

FIELDS = {"model", "positions", "sites", "values", "max_relative", "worst_address", "failed"}


@pytest.mark.parametrize("kind", KINDS)
def test_verify(capsys: Capture, models: dict[str, str], kind: str) -> None:
    ask = ("verify", "--model", models[kind], PROMPT)  # the option may come first
    found = answer(capsys, *ask)
    assert set(found) == FIELDS and found["failed"] == 0 and found["model"] == models[kind]
    assert found["values"] > 1000 and found["sites"] > 30 and found["positions"] > 3
    assert found["worst_address"] in shown(capsys, *ask)


def test_verify_says_how_many_sites_it_shows(capsys: Capture, models: dict[str, str]) -> None:
    ask = ("verify", "--model", models["llama"], PROMPT)
    assert f"Of {answer(capsys, *ask)['sites']} sites, the 10 " in shown(capsys, *ask)


def test_explain_and_verify_take_edits(capsys: Capture, models: dict[str, str]) -> None:
    model = ("--model", models["llama"])
    edit = ("--edit", "add:layers.0.residual_in[position=1]:2")
    ask = ("explain", "The cat", "layers.0.residual_in[1, 3]", *model)
    plain, edited = answer(capsys, *ask), answer(capsys, *ask, *edit)
    assert edited["edited"] and not plain["edited"]
    assert edited["value"] == pytest.approx(plain["value"] + 2, rel=1e-5)
    out = shown(capsys, "verify", "The cat", *model, *edit)
    assert "written by edits" in out
    assert main(["verify", "The cat", *model, "--edit", "half"]) == 2
    assert capsys.readouterr().out == ""


def test_no_line_ends_in_spaces_and_none_is_empty_before_the_first(
    capsys: Capture, models: dict[str, str]
) -> None:
    model = ("--model", models["llama"])
    for ask in (
        ("explain", PROMPT, CELLS["llama"], *model, "--depth", "1"),
        ("trace", PROMPT, *model),
        ("verify", PROMPT, *model),
        ("lesson",),
    ):
        lines = shown(capsys, *ask).split("\n")
        assert lines[0].strip() and not [line for line in lines if line != line.rstrip()]


def test_the_terms_of_a_softmax_are_powers(capsys: Capture, models: dict[str, str]) -> None:
    model = ("--model", models["llama"])
    for cell in (CELLS["llama"], "sampling.probabilities[-1, 100]"):
        assert "exp(" in shown(capsys, "explain", PROMPT, cell, *model).split(" − max)")[0]


def test_verify_fails_aloud(
    capsys: Capture, models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Verification, "failed", property(lambda self: 3))
    ask = ("verify", PROMPT, "--model", models["llama"])
    assert answer(capsys, *ask, code=1)["failed"] == 3
    assert "3 " in shown(capsys, *ask, code=1)


# -- trace -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_trace(capsys: Capture, models: dict[str, str], kind: str) -> None:
    more = () if kind == "bert" else ("--max-new-tokens", "2")
    ask = ("trace", PROMPT, "--model", models[kind], *more)
    found = answer(capsys, *ask)
    model = api.load(models[kind])
    read = model.tokenizer.encode(PROMPT)
    given = found["sources"] if kind == "marian" else found["tokens"]
    assert [token["id"] for token in given][: len(read)] == read
    assert [token["position"] for token in found["tokens"]] == list(range(len(found["tokens"])))
    chosen = [token for token in found["tokens"] if token["chosen"]]
    assert len(chosen) == (0 if kind == "bert" else 2)
    for token in chosen:
        assert token["phase"] == "decode" and 0 < token["probability"] <= 1
        assert token["bits"] == pytest.approx(-np.log2(token["probability"]))
        assert 0 <= token["entropy"] <= np.log2(model.engine.vocab_size)
    out = shown(capsys, *ask)
    assert "鱼 1/3 (E9)" in out or kind == "bert"
    assert ("decoder layer" in " ".join(out.split())) == (kind == "marian")
    assert shown(capsys, *ask, "--lang", "zh") != out


def test_trace_writes_what_it_saw(capsys: Capture, models: dict[str, str], tmp_path: Path) -> None:
    saved = tmp_path / "run.safetensors"
    ask = ("trace", PROMPT, "--model", models["llama"], "--keep", "*.pattern", "--budget", "1GB")
    page = tmp_path / "run.html"
    files = ("--save", str(saved), "--html", str(page))
    found = answer(capsys, *ask, "--spill", *files, "--lang", "zh")
    assert found["files"] == [str(saved), str(page)]
    written = page.read_text(encoding="utf-8")
    assert written.startswith("<!")
    chosen = found["tokens"][-1]
    for site in ("sampling.logits", "sampling.probabilities"):
        assert f"{site}[position={chosen['position']}, word={chosen['id']}]" in written
    trace = api.load(models["llama"]).open_trace(saved)
    assert trace.is_seen("layers.1.attention.pattern") and trace.text == found["text"]


def test_trace_explains_what_it_is_asked_to(
    capsys: Capture, models: dict[str, str], tmp_path: Path
) -> None:
    page = tmp_path / "run.html"
    ask = ("trace", PROMPT, "--model", models["llama"], "--explain", CELLS["llama"])
    shown_now = answer(capsys, *ask, "--html", str(page))["tokens"][-1]
    written = page.read_text(encoding="utf-8")
    assert CELLS["llama"] in written
    assert f"sampling.logits[position={shown_now['position']}, word=" not in written
    assert main(list(ask)) == 2
    assert "--html" in capsys.readouterr().err


def test_trace_with_an_edit(capsys: Capture, models: dict[str, str]) -> None:
    ask = ("trace", "The cat", "--model", models["llama"])
    plain, edited = (
        answer(capsys, *ask, *more)["tokens"][-1]["probability"]
        for more in ((), ("--edit", "zero:layers.1.feedforward.output"))
    )
    assert plain != edited


def test_edits_as_they_are_written() -> None:
    assert parse_edit("zero:layers.0.attention.mixed[head=2]") == Zero(
        "layers.0.attention.mixed[head=2]"
    )
    assert parse_edit("scale:layers.0.residual_in[position=2:5]:0.5") == Scale(
        "layers.0.residual_in[position=2:5]", 0.5
    )
    assert parse_edit("add:layers.0.residual_in:-1e3") == Add("layers.0.residual_in", -1000.0)
    for wrong in ("", "zero", "zero:", "scale:layers.0.residual_in", "patch:a:b", "scale:a:b"):
        with pytest.raises(LucidError) as caught:
            parse_edit(wrong)
        assert caught.value.key == "cli.bad_edit"


@pytest.mark.parametrize(
    "more",
    [
        ("--keep", "layers.0.attention.patern"),
        ("--edit", "zero:nowhere"),
        ("--budget", "much"),
        ("--budget", "10"),
        ("--edit", "half"),
    ],
)
def test_trace_refuses_before_it_runs(
    capsys: Capture, models: dict[str, str], more: tuple[str, str]
) -> None:
    assert main(["trace", PROMPT, "--model", models["llama"], *more]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Error: ") and err.count("\n") == 1
