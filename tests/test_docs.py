"""README and docs: both languages show the same, links lead somewhere, and the examples run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

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


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


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


@pytest.mark.checkpoint("smollm2-135m")
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for example in blocks(page, "python"):
        exec(compile(example, str(page), "exec"), {})
        assert capsys.readouterr().out.strip()


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
