"""`lucidlm train` as a command: what it prints, how it ends, and the process it starts in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import recipes
from recipes import one_thread  # noqa: F401
from rich.console import Console

from lucidlm.cli.main import main
from lucidlm.hardware import Gpu, Machine
from lucidlm.locale import LANGUAGES, text
from lucidlm.terminal.training import SPARKS, Panel, duration, sparkline
from lucidlm.train import launch
from lucidlm.train.environment import environment
from lucidlm.train.events import Stepped

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parent.parent
SHORT = {"steps": 4, "save_every": 2, "evaluate_every": 2, "sample_every": 4}


def test_a_run_tells_on_stderr_and_answers_on_stdout(capsys: Capture, tmp_path: Path) -> None:
    path = recipes.write(tmp_path, **SHORT)
    run = tmp_path / "run"
    assert main(["train", str(path), "--out", str(run)]) == 0
    out, err = capsys.readouterr()
    assert str(run / "model") in out and "Step 4" in out
    assert "step 4/4" in err and "held out" in err and "The␣ → " in err
    assert "\x1b" not in out + err
    assert main(["train", str(path), "--out", str(run), "--resume", "--json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert err == "" and (answer["steps"], answer["resumed_from"]) == (4, 4)
    assert answer["reason"] == "done" and answer["model"] == str(run / "model")


def test_set_changes_the_recipe_and_json_has_the_outcome(capsys: Capture, tmp_path: Path) -> None:
    path = recipes.write(tmp_path, **SHORT)
    command = ["train", str(path), "--out", str(tmp_path / "run"), "--json"]
    assert main([*command, "--set", "steps=2", "--set", "optimiser.name=adamw"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["steps"] == 2 and answer["tokens"] > 0 and answer["loss"] > 0
    said = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (said["steps"], said["optimiser"]["name"]) == (2, "adamw")


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_dry_run_says_what_it_would_take(capsys: Capture, tmp_path: Path, lang: str) -> None:
    path = recipes.write(tmp_path, **SHORT)
    before = sorted(tmp_path.iterdir())
    assert main(["train", str(path), "--dry-run", "--lang", lang]) == 0
    out = capsys.readouterr().out
    for name in ("parameters", "memory", "rate"):
        assert text(f"training.plan_{name}", lang) in out
    assert main(["train", str(path), "--dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["memory"]["needed"] > 0 and answer["seconds"] > 0
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_without_a_folder_is_kept_by_its_name(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipes.write(tmp_path, **(SHORT | {"steps": 1}))
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(path), "--json"]) == 0
    assert (tmp_path / "runs" / "characters" / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.toml"], "nowhere.toml"),
        (["RECIPE", "--set", "stpes=3"], "steps"),
        (["RECIPE", "--set", "steps"], "KEY=VALUE"),
        (["RECIPE", "--set", "data.train=[{path='gone.txt'}]"], "gone.txt"),
        (["RECIPE", "--resume", "--out", "FOLDER"], "recipe.json"),
        ([], "RECIPE is missing"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    capsys: Capture, tmp_path: Path, arguments: list[str], says: str
) -> None:
    path = recipes.write(tmp_path / "recipe", **SHORT)
    places = {"RECIPE": str(path), "FOLDER": str(path.parent)}
    told = set()
    for lang in LANGUAGES:
        given = [places.get(argument, argument) for argument in arguments]
        assert main(["train", *given, "--lang", lang]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        told.add(err)
    assert len(told) == 2 and any(says in sentence for sentence in told)


def process(path: Path, *options: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nfrom lucidlm.cli.main import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "train", str(path), *options],
        capture_output=True, encoding="utf-8", timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_without_pytorch_the_extra_is_named(tmp_path: Path) -> None:
    done = process(recipes.write(tmp_path), before="sys.modules['torch'] = None")
    assert done.returncode == 2 and "lucidlm[train]" in done.stderr and done.stdout == ""


# -- the environment -------------------------------------------------------------------------------


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would have replaced this process, as if it were the program on a machine without GPU."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/lucidlm", "train", "x.toml"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", *sys.argv])
    monkeypatch.setattr(launch, "here", lambda: Machine(cores=2, memory=1, available=1))
    for name in (*environment(), *launch.OF_A_LAUNCHER, launch.LAUNCHED, launch.NO_LAUNCH):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_the_program_starts_itself_once_more(
    executed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = environment()
    monkeypatch.setenv(first, "mine")
    launch.relaunch()
    ((program, arguments, variables),) = executed
    assert program == sys.executable
    assert arguments == [sys.executable, "-X", "dev", *sys.argv]
    assert variables == {**environment(), **os.environ, "LUCIDLM_LAUNCHED": "1", first: "mine"}
    monkeypatch.setattr(os, "environ", variables)
    launch.relaunch()
    assert len(executed) == 1


@pytest.mark.parametrize("name", [launch.NO_LAUNCH, "TORCHELASTIC_RUN_ID", "LOCAL_RANK"])
def test_it_does_not_where_it_is_told_or_launched(
    executed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    launch.relaunch()
    assert not executed


def test_nor_on_a_gpu_nor_within_another_program(
    executed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = (Gpu(name="G", memory=1),)
    with monkeypatch.context() as patch:
        patch.setattr(launch, "here", lambda: Machine(cores=2, memory=1, available=1, gpus=gpus))
        launch.relaunch()
    monkeypatch.setattr(sys, "argv", ["/somewhere/pytest", "train"])
    launch.relaunch()
    assert not executed


@pytest.mark.skipif(sys.platform != "linux", reason="the C library's own variables")
def test_a_real_process_gets_the_environment(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys; print(os.environ.get('MALLOC_TOP_PAD_'), file=sys.stderr)"
    )
    variables = {k: v for k, v in os.environ.items() if k not in environment()}
    done = subprocess.run(
        [sys.executable, "-m", "lucidlm", "train", str(recipes.write(tmp_path)), "--set", "steps="],
        capture_output=True, encoding="utf-8", timeout=120,
        env=variables | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 2  # a bad --set: not started again
    done = subprocess.run(
        [sys.executable, "-m", "lucidlm", "train", str(tmp_path / "recipe.toml"),
         "--set", "context=65"],
        capture_output=True, encoding="utf-8", timeout=120,
        env=variables | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert done.stderr.splitlines()[:2] == ["None", environment()["MALLOC_TOP_PAD_"]]


# -- the panel -------------------------------------------------------------------------------------


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([3.0, 2.0, 1.0], 8) == "█▅▁"  # the middle of eight heights is the fifth
    assert sparkline([5.0] * 100, 10) == SPARKS[0] * 10
    assert len(sparkline(list(range(1000)), 32)) == 32
    assert sparkline(list(range(64)), 8) == SPARKS


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5 s"), (59.4, "59 s"), (90, "2 min"), (3700, "1 h 2 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds, text_in("en")) == said


def text_in(lang: str) -> Any:
    return lambda key, **values: text(key, lang, **values)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_panel_fits_a_terminal_and_counts_right(lang: str) -> None:
    """Half of the steps done, at a tenth of the peak, two seconds each."""
    ready: Any = SimpleNamespace(start=0, steps=200, flops_per_token=1000, peak_flops=5e6)
    panel = Panel(ready, text_in(lang))
    for step in range(1, 101):
        panel.take(
            Stepped(
                step=step, loss=5 - step / 50, rate=0.1, gradient_norm=1.0, tokens=1000,
                seconds=2.0, held_out=3.125 if step == 50 else None,
            )
        )  # fmt: skip
    panel.sample = ("床前\n", "明月光 " * 60)
    console = Console(width=80, record=True, file=open(os.devnull, "w"))
    console.print(panel.picture())
    console.file.close()
    shown = console.export_text()
    for said in ("100/200", "3.000", "3.125", "500", "10.0 %", duration(200, text_in(lang))):
        assert said in shown
    assert "↵" in shown and shown.count("\n") < 8
