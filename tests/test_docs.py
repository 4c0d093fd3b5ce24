"""README and docs: both languages show the same, links lead somewhere, and the examples run and
print what stands below them.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lucidlm.cli.main import main

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAIRS = [(ROOT / "README.md", ROOT / "README.zh.md")] + [
    (ROOT / "docs" / page.name, page) for page in sorted((ROOT / "docs" / "zh").glob("*.md"))
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """A block that can be run, and the output that stands directly below it, if one does."""

    language: str
    code: str
    output: str

    @property
    def needs_pulled(self) -> bool:
        return PULLED in self.code

    @property
    def runs(self) -> bool:
        """Whether a test can: other commands install, fetch, or read a file of the reader's."""
        return self.language == "python" or any(part in self.code for part in COMMANDS)


PULLED = "smollm2-135m"
COMMANDS = ("lucidlm sites", "lucidlm explain", "lucidlm verify")
SHOWN = re.compile(r"^```(python|console)\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.M | re.S)
EXAMPLES = {
    page: [Example(*found) for found in SHOWN.findall(page.read_text(encoding="utf-8"))]
    for page in PAGES
}
NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def pages(pulled: bool) -> list[Path]:
    """Those with an example that needs a pulled model, or with one that does not."""
    found = EXAMPLES.items()
    return [page for page, each in found if any(e.runs and e.needs_pulled == pulled for e in each)]


def check(example: Example, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Run it; what it prints is what the page shows, except where that has a line of `…`."""
    if example.language == "python":
        exec(compile(example.code, "example", "exec"), names)
    else:
        for line in re.findall(r"^\$ lucidlm (.*)$", example.code, re.M):
            assert main(shlex.split(line, comments=True)) == 0
    printed = iter([line.rstrip() for line in capsys.readouterr().out.strip().splitlines()])
    if not example.output:
        assert any(printed)
        return
    may_skip = False
    for line in example.output.strip().splitlines():
        if line == "…":
            may_skip = True
            continue
        found = next(printed, "nothing more")
        while may_skip and not alike(line, found):
            found = next(printed)
        assert alike(line, found), (line, found)
        may_skip = False
    assert may_skip or not list(printed)


def alike(line: str, other: str) -> bool:
    """Whether two lines say the same, but for the rounding of another machine: a fraction may
    differ by one in its last place. Lines with a tick are about nothing but rounding.
    """
    if "✓" in line:
        return "✓" in other
    words = [" ".join(NUMBER.sub("#", x).split()) for x in (line, other)]
    numbers = zip(NUMBER.findall(line), NUMBER.findall(other), strict=False)
    return words[0] == words[1] and all(near(one, another) for one, another in numbers)


def near(one: str, other: str) -> bool:
    digits, _, power = one.replace(",", "").partition("e")
    _, point, fraction = digits.partition(".")
    last = 10.0 ** (int(power or 0) - len(fraction)) if point else 0.0
    values = [float(number.replace(",", "")) for number in (one, other)]
    return abs(values[0] - values[1]) <= 1.01 * last


def outline(page: Path) -> list[str]:
    """What a page is made of, in order: level of each heading, block, list item or table row."""
    starts = r"^(#+ |```\w+|- |\d\. |\|)"
    return re.findall(starts, page.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=lambda page: page.name)
def test_both_languages_have_the_same_content(english: Path, chinese: Path) -> None:
    assert outline(english) == outline(chinese)
    for language in ("python", "console"):
        without_comments = [
            [re.sub(r"(^| +)#.*", "", block, flags=re.M) for block in blocks(page, language)]
            for page in (english, chinese)
        ]
        assert without_comments[0] == without_comments[1]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = re.findall(r"(?:^\$ |`)make ([a-z -]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {target for line in named for target in line.split()} <= targets


def language(page: Path) -> str:
    return "zh" if "zh" in (page.parent.name, page.suffixes[0][1:]) else "en"


@pytest.mark.parametrize("page", pages(pulled=False), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(
    page: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In order, in one folder and with one set of names, as a reader would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUCIDLM_LANG", language(page))
    names: dict[str, Any] = {}
    for example in EXAMPLES[page]:
        if example.runs and not example.needs_pulled:
            check(example, names, capsys)


@pytest.mark.checkpoint("smollm2-135m")
@pytest.mark.parametrize("page", pages(pulled=True), ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_on_a_real_model_run(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIDLM_LANG", language(page))
    for example in EXAMPLES[page]:
        if example.runs and example.needs_pulled:
            check(example, {}, capsys)


def test_lines_that_differ_are_told_apart() -> None:
    assert alike("a = 0.772532  of 49,144", "a = 0.772533 of 49,144")
    assert not alike("a = 0.7725", "a = 0.7727")
    assert not alike("a = 0.7725", "b = 0.7725")
    assert not alike("of 49,144", "of 49,145")


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_measured_figures_are_those_of_the_results(page: str) -> None:
    results = ROOT / "benchmarks" / "results"
    load, decode = (json.loads((results / f"{x}.json").read_text()) for x in ("load", "decode"))
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\| ([\d.]+)(?: s)? \| ([\d.]+)(?: s)? \| ([\d.]*) ?\|$", text, re.M)
    both = {"seconds": 1, "growth_in_weights": 2}
    wanted = [[load[name], load[f"transformers_{name}"]] for name in both]
    wanted.append([decode["tokens_per_second"], decode["transformers_tokens_per_second"]])
    digits = [*both.values(), 1]
    figures = [
        [f"{x['median']:.{n}f}" for x in pair] for pair, n in zip(wanted, digits, strict=True)
    ]
    assert [list(row[:2]) for row in rows] == figures
    ratios = [f"{x['ratio']['median']:.2f}" for x in (load, decode)]
    assert [row[2] for row in rows if row[2]] == ratios


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_cost_of_looking_is_that_of_the_results(page: str) -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "trace.json").read_text())
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\| ([+-][\d.]+) ms \| ([\d.]+) \|$", text, re.M)
    runs = ["recorded", "everything", "everything_spilled", "hf_attentions_hidden"]
    runs += ["tl_all_hooks", "tl_return_cache", "nnsight_cache"]
    medians = [
        [result[f"decode_{run}_{what}"]["median"] for what in ("more_ms", "ratio")] for run in runs
    ]
    assert rows == [(f"{more:+.1f}", f"{ratio:.2f}") for more, ratio in medians]
    assert f"{result['prefill_recorded_ratio']['median']:.2f}" in text
    base = result["decode_plain_ms"]["min"]
    for run in runs[:2]:
        assert f"{result[f'decode_{run}_ms']['min'] / base:.3f}" in text
    for name, digits in {
        "residuals_mb_of_512_positions": 1,
        "long_run_memory_growth_mb": 1,
    }.items():
        assert f"{result[name]:.{digits}f} MB" in text
