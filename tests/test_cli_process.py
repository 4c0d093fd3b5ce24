"""The program as a process: what it imports, that no PyTorch is needed around an engine, signals
and pipes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from lucidlm.classical import dog

TESTS = Path(__file__).parent
ROOT = TESTS.parent
LUCIDLM = [sys.executable, "-c", "import sys; from lucidlm.cli.main import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.build(tmp_path_factory.mktemp("model"), "llama", chat=True))


def run(
    *arguments: str, before: str = "", text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """`lucidlm arguments` in a process of its own, after the statements `before`."""
    return subprocess.run(
        [sys.executable, "-c", CODE.format(before=before), *arguments],
        input=text,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}"} | environment,
        timeout=120,
    )


CODE = """
import sys
{before}
from lucidlm.cli.main import main
code = main()
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["count", "gpt3-175b"],
        ["tokenize", "好"],
        ["tokenize", "好", "--model", "LLAMA"],
        ["tokenize", "--compare"],
        ["models"],
        ["models", "--presets"],
        ["pull", "nothing"],
        ["analogy", "king"],
        ["export", "LLAMA", "OUT"],
        ["run", "我 刚才 跑步，我 现在", "--model", "NGRAM", "--steps"],
        ["chat", "--help"],
    ],
    ids=" ".join,
)
def test_what_does_not_compute_with_pytorch_does_not_import_it(
    arguments: list[str], llama: str, tmp_path: Path
) -> None:
    dog.model(4).save(tmp_path / "dog.ngram")
    places = {"LLAMA": llama, "OUT": str(tmp_path / "out"), "NGRAM": str(tmp_path / "dog.ngram")}
    done = run(*(places.get(argument, argument) for argument in arguments))
    assert done.returncode in (0, 2), done.stderr
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "lucidlm.cli.main" in loaded
    assert not {"torch", "transformers"} & loaded
    if "--help" in arguments:
        assert not {"rich", "numpy", "tokenizers"} & loaded
    if arguments == ["--help"]:
        assert "typer" not in loaded


def test_the_native_engine_needs_neither_pytorch_nor_the_glass(llama: str) -> None:
    pytest.importorskip("lucidlm.backends._native")
    done = run("run", "The 猫", "--model", llama, "--max-new-tokens", "2")
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "lucidlm.backends.native.engine" in loaded
    assert not {"torch", "transformers", "lucidlm.trace.record"} & loaded


STUB = """
import sys
sys.modules["torch"] = None  # importing it fails
import numpy as np
from engines import ToyEngine
from lucidlm import api
api.build_engine = lambda checkpoint, *options: ToyEngine(checkpoint.config.vocab_size)
"""


def test_run_needs_no_pytorch_around_an_engine(llama: str) -> None:
    """The seam: another engine in its place, and PyTorch cannot be imported."""
    arguments = ["run", "The 猫", "--model", llama, "--max-new-tokens", "5", "--temperature", "0.9"]
    done = run(*arguments, "--seed", "1", "--json", before=STUB)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["tokens"]) == 5 and answer["stop_reason"] == "length"
    shown = run(*arguments, "--seed", "1", before=STUB)
    assert shown.stdout == answer["text"] + "\n"
    steps = run(*arguments, "--steps", before=STUB)
    assert steps.returncode == 0 and "no layers" in steps.stdout
    options = ["--model", llama, "--max-new-tokens", "2", "--json"]
    talked = run("chat", *options, before=STUB, text="a\nb\n")
    assert len(talked.stdout.splitlines()) == 2


NO_TORCH = """
import sys
sys.modules["torch"] = None
"""
TOO_LARGE = "from lucidlm import api; api.SMALL = 1000"


def test_without_pytorch_a_small_model_runs_all_the_same(llama: str) -> None:
    arguments = ["run", "The 猫", "--model", llama, "--max-new-tokens", "5", "--temperature", "0"]
    done = run(*arguments, before=NO_TORCH)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run(*arguments).stdout


def test_without_pytorch_and_a_compiler_a_small_model_runs_too(llama: str) -> None:
    arguments = ["run", "The 猫", "--model", llama, "--max-new-tokens", "5", "--temperature", "0"]
    done = run(*arguments, before=NO_TORCH, LUCIDLM_NATIVE="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == run(*arguments).stdout


def test_without_pytorch_a_large_model_runs_on_the_native_engine(llama: str) -> None:
    pytest.importorskip("lucidlm.backends._native")
    arguments = ["run", "The 猫", "--model", llama, "--max-new-tokens", "5", "--temperature", "0"]
    done = run(*arguments, before=NO_TORCH + TOO_LARGE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run(*arguments).stdout


def test_without_pytorch_the_extra_is_named(llama: str) -> None:
    done = run("run", "x", "--model", llama, before=NO_TORCH + TOO_LARGE, LUCIDLM_NATIVE="0")
    assert done.returncode == 2 and "lucidlm[torch]" in done.stderr and done.stdout == ""


def test_json_is_utf8_whatever_the_encoding() -> None:
    done = run("tokenize", "好", "--json", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and json.loads(done.stdout)["text"] == "好"
    plain = run("tokenize", "好", PYTHONIOENCODING="ascii")
    assert plain.returncode == 0 and "\\u597d" in plain.stdout


def test_bytes_that_are_no_text_on_the_command_line() -> None:
    done = subprocess.run(
        [*LUCIDLM, "tokenize", b"a\xff"], capture_output=True, cwd=ROOT, timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == b"" and done.stderr.count(b"\n") == 1


def test_no_colour_in_a_pipe() -> None:
    for arguments in (["count", "gpt3-175b"], ["models"], ["tokenize", "a"], ["nothing"]):
        done = run(*arguments)
        assert "\x1b" not in done.stdout + done.stderr


def test_a_reader_that_goes_away_is_no_fault() -> None:
    program = subprocess.Popen(
        [*LUCIDLM, "tokenize", "word " * 3000], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert program.stdout is not None and program.stderr is not None
    program.stdout.read(10)
    program.stdout.close()
    assert program.wait(60) == 1 and program.stderr.read() == b""
    program.stderr.close()


SLOWLY = """
import time
from lucidlm import api
stream = api.Model.stream
def slowly(*args, **options):
    for step in stream(*args, **options):
        yield step
        time.sleep(0.1)
api.Model.stream = slowly
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_130(llama: str) -> None:
    code = f"import sys\n{SLOWLY}\nfrom lucidlm.cli.main import main\nsys.exit(main())"
    program = subprocess.Popen(
        [sys.executable, "-c", code, "run", "The", "--model", llama, "--max-new-tokens", "60"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert program.stdout is not None and program.stderr is not None
    begun = program.stdout.read(1)
    time.sleep(0.2)
    program.send_signal(signal.SIGINT)
    rest, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert (begun + rest).endswith(b"\n") and err == b"Interrupted.\n"
