"""Help: complete, current, in two languages, and quick. The set of commands and options is frozen
here.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from lucidlm.cli.build import build
from lucidlm.cli.help import command_help, overview
from lucidlm.cli.main import main
from lucidlm.cli.table import COMMANDS
from lucidlm.locale import LANGUAGES
from lucidlm.terminal.wrap import columns, wrap

ROOT = Path(__file__).parent.parent
HELP_SECONDS = 0.3

# A new command or option is a visible decision: it is added here.
SAMPLING = {
    "--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--seed",
}  # fmt: skip
SURFACE = {
    "run": SAMPLING
    | {
        "--model",
        "--steps",
        "--layers",
        "--max-new-tokens",
        "--stop",
        "--beams",
        "--dtype",
        "--engine",
        "--json",
    }
    | {"--frequency-penalty", "--presence-penalty", "--logit-bias"},
    "chat": SAMPLING | {"--model", "--system", "--max-new-tokens", "--dtype", "--engine", "--json"},
    "translate": {"--model", "--max-new-tokens", "--beams", "--dtype", "--engine", "--json"},
    "fill": {"--model", "--top", "--dtype", "--engine", "--json"},
    "tokenize": {"--model", "--kind", "--compare", "--json"},
    "analogy": {"--vectors", "--top", "--json"},
    "count": {"--here", "--json"},
    "models": {"--presets", "--json"},
    "pull": {"--accept-license", "--json"},
    "export": {"--dtype", "--json"},
    "score": {"--model", "--dtype", "--engine", "--json"},
    "train": {"--out", "--set", "--resume", "--processes", "--dry-run", "--json"},
    "trace": {
        "--model",
        "--max-new-tokens",
        "--keep",
        "--budget",
        "--spill",
        "--edit",
        "--save",
        "--explain",
    }
    | {"--html", "--temperature", "--top-k", "--top-p", "--seed", "--dtype", "--engine", "--json"},
    "sites": {"--json"},
    "explain": {
        "--model",
        "--max-new-tokens",
        "--depth",
        "--numpy",
        "--edit",
        "--dtype",
        "--engine",
        "--json",
    }
    | {"--temperature", "--top-k", "--top-p", "--seed"},
    "verify": {"--model", "--max-new-tokens", "--edit", "--dtype", "--engine", "--json"},
    "lesson": {"--code", "--run", "--json"},
    "doctor": {"--json"},
    "check": {"--signatures", "--json"},
}


def test_commands_and_options_are_frozen() -> None:
    found = {
        name: {opt for param in build(name).params for opt in param.opts if opt.startswith("-")}
        for name in COMMANDS
    }
    assert found == SURFACE


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_option_and_keeps_to_the_width(name: str, lang: str) -> None:
    shown = command_help(name, build(name).params, lang, 80)
    for option in SURFACE[name] | {"--lang", "--help"}:
        assert re.search(rf"^  {option}( |$)", shown, re.MULTILINE), option
    before_examples = shown.rpartition("\n\n")[0]
    assert max(map(columns, before_examples.splitlines())) <= 80
    assert "cli." not in shown


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--lang", "zh", "run", "--help"], ["run", "--help", "--lang=zh"], []]
)
def test_help_is_an_answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.endswith("\n") and "lucidlm" in out
    assert ("用法：" in out) == any("zh" in argument for argument in arguments)


def test_the_overview_lists_every_command() -> None:
    for lang in LANGUAGES:
        listed = re.findall(r"^  (\w+) ", overview(lang, 80), re.MULTILINE)
        assert listed == list(COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from lucidlm import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lucidlm {__version__}\n"


def start_seconds(code: str, runs: int = 5) -> float:
    """The best wall-clock time of a fresh interpreter."""
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
        times.append(time.perf_counter() - begun)
    return min(times)


def test_help_takes_less_than_a_third_of_a_second() -> None:
    """Or, on a machine too busy for that, little more than Python itself."""
    allowance = max(HELP_SECONDS, 5 * start_seconds("pass"))
    assert start_seconds("from lucidlm.cli.main import main; main(['--help'])") < allowance


def test_wrapping_counts_wide_characters() -> None:
    assert columns("好a") == 3 and columns("e\u0301") == 1
    assert wrap("一二三，四五", 6) == "一二\n三，四\n五"
    assert wrap("one two three", 8) == "one two\nthree"
    assert wrap("a: 53.9\u00a0% 一\u00a0二", 7) == "a:\n53.9\u00a0%\n一\u00a0二"
    quoted = "of the vocabulary (“开心”), or (“ is”) here"
    for width in range(12, 40):
        lines = wrap(quoted, width).split("\n")
        assert not any(line.endswith(("(", "“")) or line.startswith((")", "”")) for line in lines)
    assert "（" not in {line[-1] for line in wrap("中文中（文中文", 8).split("\n")}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs", ROOT / "scripts" / "make_cli_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_is_current(script: ModuleType, lang: str) -> None:
    """Else run scripts/make_cli_docs.py."""
    assert script.PATHS[lang].read_text(encoding="utf-8") == script.page(lang)
