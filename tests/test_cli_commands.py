"""The commands around a model: tokenize, analogy, count, models, pull, export and score."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from lucidlm import api
from lucidlm.cli.main import main
from lucidlm.locale import LANGUAGES
from lucidlm.terminal.show import bar, harmless, labelled, marked, percent, short, size
from lucidlm.text.builtin import KINDS, builtin
from lucidlm.text.spelling import labels

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.build(tmp_path_factory.mktemp("model"), "llama", chat=True))


@pytest.fixture
def vectors(tmp_path: Path) -> str:
    """Five words on a plane: king - man + woman lies nearest to king itself, then to queen."""
    rows = {
        "king": (3, 0.5),
        "man": (1, 0),
        "woman": (1, 0.8),
        "queen": (2.5, 2.2),
        "apple": (-1, 1),
    }
    path = tmp_path / "vectors.txt"
    path.write_text("".join(f"{word} {x} {y}\n" for word, (x, y) in rows.items()), encoding="utf-8")
    return str(path)


def answer(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """The one JSON object that a command prints, and nothing beside it."""
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1
    found: dict[str, Any] = json.loads(out)
    return found


def shown(capsys: Capture, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == "" and "terminal." not in out and "\ufffd" not in out
    return out


# -- tokenize --------------------------------------------------------------------------------------

SENTENCE = "今天 unbelievable 好🙂!"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_tokenize_shows_every_piece(capsys: Capture, kind: str, lang: str) -> None:
    out = shown(capsys, "tokenize", SENTENCE, "--kind", kind, "--lang", lang)
    for id in builtin(kind).encode(SENTENCE, special=False):
        assert f" {id}" in out
    found = answer(capsys, "tokenize", SENTENCE, "--kind", kind)
    assert found["ids"] == builtin(kind).encode(SENTENCE, special=False)
    assert [piece["id"] for piece in found["pieces"]] == found["ids"]
    assert len(found["pretokens"]) == len(found["merges"])
    assert any(found["merges"]) == (kind == "bpe")


def test_a_part_of_a_character_is_named(capsys: Capture, llama: str) -> None:
    """The tiny vocabulary has never seen 鱼: its bytes stay apart."""
    out = shown(capsys, "tokenize", "a 鱼", "--model", llama)
    assert "鱼 1/3 (E9)" in out and "鱼 3/3 (BC)" in out
    found = answer(capsys, "tokenize", "a 鱼", "--model", llama)
    assert found["pieces"][-1] == {
        "id": found["ids"][-1],
        "piece": "¼",
        "label": "鱼 3/3 (BC)",
        "bytes": [0xBC],
        "span": [2, 3],
    }


def test_merges_are_shown_in_the_order_they_fired(capsys: Capture) -> None:
    out = shown(capsys, "tokenize", "的", "--kind", "bpe")
    assert out.index("的 1/3 (E7) + 的 2/3 (9A)") < out.index("→ 的 ")


def test_compare(capsys: Capture) -> None:
    rows = answer(capsys, "tokenize", "--compare", "我爱你")["tokenizers"]
    assert [row["name"] for row in rows][:3] == list(KINDS)
    for row in rows[:3]:
        assert row["tokens"] == len(builtin(row["kind"]).encode("我爱你", special=False))
        assert 0 < row["tokens_per_chinese_character"] < 5 and row["tokens_per_english_word"] >= 1
    assert "per Chinese" in shown(capsys, "tokenize", "--compare")


@given(st.binary(max_size=12), st.lists(st.integers(0, 12), max_size=3))
def test_labels_for_a_terminal_stay_on_a_line(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    for label in labels(pieces):
        line = labelled(label)
        assert not set(line) & {"\n", "\r", "\t", "\x1b", "\x9b", "\ufffd"}


# -- analogy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [["king", "-", "man", "+", "woman"], ["king - man + woman"], ["king", "-man", "+woman"]],
)
def test_analogy_takes_minus_for_a_sign(capsys: Capture, vectors: str, words: list[str]) -> None:
    found = answer(capsys, "analogy", *words, "--vectors", vectors)
    assert found["terms"] == [
        {"sign": 1, "word": "king"}, {"sign": -1, "word": "man"}, {"sign": 1, "word": "woman"},
    ]  # fmt: skip
    assert found["nearest"][0]["word"] == "king"
    assert found["nearest_without_inputs"][0]["word"] == "queen"
    out = shown(capsys, "analogy", *words, "--vectors", vectors)
    assert "king - man + woman" in out and "without the words put in" in out


def test_analogy_without_vectors(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LUCIDLM_HOME", str(tmp_path))
    assert main(["analogy", "king"]) == 2
    assert "lucidlm pull glove-6b-50d" in capsys.readouterr().err


@pytest.mark.checkpoint("glove-6b-50d")
def test_king_minus_man_plus_woman(capsys: Capture) -> None:
    found = answer(capsys, "analogy", "king", "-", "man", "+", "woman")
    nearest, others = found["nearest"][0], found["nearest_without_inputs"][0]
    assert nearest == {"word": "king", "similarity": pytest.approx(0.886, abs=5e-4)}
    assert others == {"word": "queen", "similarity": pytest.approx(0.861, abs=5e-4)}


# -- count -----------------------------------------------------------------------------------------


def test_count_of_gpt3(capsys: Capture) -> None:
    found = answer(capsys, "count", "gpt3-175b")
    assert found["parameters"] == 174_604_259_328
    assert found["attention_projection_parameters"] == 57_982_058_496
    needed = {
        "embedding_parameters",
        "flops_per_token",
        "kv_cache_bytes_per_token",
        "training_memory_bytes",
    }
    assert needed <= set(found)
    for lang in LANGUAGES:
        out = shown(capsys, "count", "gpt3-175b", "--lang", lang)
        assert "174,604,259,328" in out and "57,982,058,496" in out


def test_count_takes_a_folder_and_a_config(capsys: Capture, llama: str) -> None:
    elements = api.load(llama).checkpoint
    assert elements is not None
    expected = sum(array.size for _, array in elements.weights(np.float32))
    for name in (llama, f"{llama}/config.json"):
        assert answer(capsys, "count", name)["parameters"] == expected


def test_count_here(capsys: Capture, llama: str) -> None:
    found = answer(capsys, "count", llama, "--here")["here"]
    assert found["fits"]["float32"]["fits"] is True and found["memory_bytes_per_second"] > 0
    assert "It fits" in shown(capsys, "count", llama, "--here")
    assert "does not fit" in shown(capsys, "count", "gpt3-175b", "--here")


# -- models, pull, export --------------------------------------------------------------------------


def test_models(capsys: Capture) -> None:
    found = answer(capsys, "models")["models"]
    assert {"smollm2-135m", "gemma3-270m", "minilm-l6", "glove-6b-50d"} <= {
        row["name"] for row in found
    }
    assert all(row["installed"] == (row["origin"] == "package") for row in found)
    for lang in LANGUAGES:
        assert "smollm2-135m" in shown(capsys, "models", "--lang", lang)


def test_presets(capsys: Capture) -> None:
    sizes = {
        row["name"]: row["parameters"] for row in answer(capsys, "models", "--presets")["presets"]
    }
    assert sizes["gpt3-175b"] == 174_604_259_328
    assert "gpt3-175b" in shown(capsys, "models", "--presets")


@pytest.fixture
def pulling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """A pull that fetches nothing: it reports its progress, and what it was asked."""
    from lucidlm.checkpoint import pull as module

    asked: list[dict[str, Any]] = []

    def pull(name: str, **options: Any) -> Path:
        asked.append({"name": name, **options})
        for done in range(0, 101, 5):
            options["progress"]("download", done, 100)
        if name == "minilm-l6":
            raise KeyboardInterrupt
        return tmp_path / name

    monkeypatch.setattr(module, "pull", pull)
    yield asked


def test_pull_says_how_far_it_is(capsys: Capture, pulling: list[dict[str, Any]]) -> None:
    assert main(["pull", "smollm2-135m", "--accept-license"]) == 0
    out, err = capsys.readouterr()
    assert "smollm2-135m is here" in out and err.count("\n") == 11 and "downloading 100 %" in err
    assert pulling[0]["accept_license"] is True
    assert main(["pull", "smollm2-135m", "--json"]) == 0
    out, err = capsys.readouterr()
    assert set(json.loads(out)) == {"name", "folder", "already", "licence"}


def test_an_interrupted_pull_says_how_to_go_on(
    capsys: Capture, pulling: list[dict[str, Any]]
) -> None:
    assert main(["pull", "minilm-l6"]) == 130
    out, err = capsys.readouterr()
    assert out == "" and "`lucidlm pull minilm-l6` goes on" in err and "Interrupted" in err


def test_terms_must_be_accepted(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from lucidlm.checkpoint import pull as module
    from lucidlm.errors import PullError

    def refuse(name: str, **_: Any) -> Path:
        raise PullError("pull.terms", name=name, licence="X", url="u", path="p")

    monkeypatch.setattr(module, "pull", refuse)
    assert main(["pull", "gemma3-270m"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "--accept-license" in err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_export_is_the_same_model(capsys: Capture, llama: str, tmp_path: Path, dtype: str) -> None:
    target = tmp_path / "out"
    found = answer(capsys, "export", llama, str(target), "--dtype", dtype)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(found["files"])
    before, after = api.load(llama), api.load(str(target))
    assert after.tokenizer.encode("The 猫") == before.tokenizer.encode("The 猫")
    old, new = before.generate("The", max_new_tokens=1), after.generate("The", max_new_tokens=1)
    assert new.tokens[0].probability == pytest.approx(
        old.tokens[0].probability, rel=1e-6 if dtype == "float32" else 0.05
    )
    assert main(["export", llama, str(target)]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_an_export_opens_in_transformers(capsys: Capture, llama: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    assert main(["export", llama, str(tmp_path / "out")]) == 0
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ours = api.load(llama)
    ids = ours.tokenizer.encode("The cat")
    logits = theirs(torch.tensor([ids])).logits[0, -1].detach().numpy()
    assert int(logits.argmax()) == ours.generate("The cat", max_new_tokens=1).ids[0]


# -- score -----------------------------------------------------------------------------------------


def test_score(capsys: Capture, llama: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("The cat sat on the mat. 我爱你。" * 6, encoding="utf-8")
    found = answer(capsys, "score", str(path), "--model", llama)
    expected = api.load(llama).score(path.read_text(encoding="utf-8"))
    assert found["perplexity"] == pytest.approx(expected.perplexity)
    assert found["bits_per_byte"] == pytest.approx(expected.bits_per_byte)
    assert found["bytes"] == path.stat().st_size
    assert "perplexity" in shown(capsys, "score", str(path), "--model", llama)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no file"),
        (b"", "no text"),
        (b" \n", "no text"),
        (b"\xff\xfe\x00", "byte at 0"),
        (b"ab\0c", "byte at 2"),
    ],
)
def test_what_is_no_text_is_not_scored(
    capsys: Capture, llama: str, tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    assert main(["score", str(path), "--model", llama]) == 2
    out, err = capsys.readouterr()
    assert out == "" and says in err
    assert main(["score", str(tmp_path), "--model", llama]) == 2
    assert "folder" in capsys.readouterr().err


# -- drawing ---------------------------------------------------------------------------------------


def test_numbers_as_people_read_them() -> None:
    assert [percent(x) for x in (0, 0.612, 1, 0.00014)] == ["0.0 %", "61.2 %", "100.0 %", "0.014 %"]
    assert [size(x) for x in (0, 999, 1000, 92_871_040, 3.07e12)] == [
        "0 B",
        "999 B",
        "1 kB",
        "92.9 MB",
        "3.07 TB",
    ]
    assert [short(x) for x in (12, 57_982_058_496, 174_604_259_328)] == ["12", "58 B", "175 B"]


@given(st.floats(0, 1), st.integers(1, 60))
def test_a_bar_is_as_long_as_its_share(share: float, columns: int) -> None:
    drawn = bar(share, columns)
    eighths = sum(8 if block == "█" else " ▏▎▍▌▋▊▉".index(block) for block in drawn)
    assert len(drawn) <= columns and abs(eighths - share * columns * 8) <= (1 if share > 0 else 0)


@given(st.text())
def test_nothing_that_controls_a_terminal_gets_through(text: str) -> None:
    for cleaned in (harmless(text), marked(text)):
        assert not any(ord(c) < 32 and c not in "\n\t" for c in cleaned)
        assert not any(0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E for c in cleaned)
    assert "\n" not in marked(text) and "\t" not in marked(text)


def test_the_argument_list_is_taken_from_the_system(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lucidlm", "--version"])
    assert main() == 0 and capsys.readouterr().out.startswith("lucidlm ")
