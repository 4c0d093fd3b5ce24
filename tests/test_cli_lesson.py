"""`lucidlm lesson`: the list, a lesson drawn and as JSON, its script, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lucidlm.cli.main import main
from lucidlm.lessons.shelf import code, names, page
from lucidlm.locale import LANGUAGES

NAME = "attention-by-hand"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["lesson", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_list(capsys: pytest.CaptureFixture[str], lang: str) -> None:
    status, out, err = run(capsys, "--lang", lang)
    assert status == 0 and err == ""
    places = [out.index(f"{name} ") for name in names()]
    assert places == sorted(places)
    assert all(page(name, lang).title in out for name in names())


def test_the_list_runs_no_lesson() -> None:
    program = (
        "import sys\n"
        "from lucidlm.cli.main import main\n"
        "assert main(['lesson']) == 0\n"
        "assert not {'numpy', 'lucidlm.lessons.telling'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_list_as_json(capsys: pytest.CaptureFixture[str], lang: str) -> None:
    status, out, _ = run(capsys, "--json", "--lang", lang)
    listed = json.loads(out)
    assert status == 0 and out.count("\n") == 1
    assert listed == [{"name": name, "title": page(name, lang).title} for name in names()]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_lesson(capsys: pytest.CaptureFixture[str], lang: str) -> None:
    status, out, err = run(capsys, NAME, "--lang", lang)
    assert status == 0 and err == ""
    prose = page(NAME, lang)
    assert out.startswith(prose.title) and "{{" not in out
    assert [b.heading for b in prose.beats if "{{" not in b.heading and b.heading not in out] == []


def test_a_lesson_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, NAME, "--json", "--lang", "zh")
    answer = json.loads(out)
    assert status == 0 and set(answer) == {"name", "title", "beats", "figures"}
    assert answer["name"] == NAME and answer["title"] == page(NAME, "zh").title
    for beat in answer["beats"]:
        assert set(beat) == {"id", "heading", "text", "values", "needs"} and beat["text"]
    assert set(answer["figures"][0]) == {"name", "article", "true", "reason"}


def test_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, NAME, "--code") == (0, code(NAME), "")
    status, out, _ = run(capsys, NAME, "--code", "--json")
    assert status == 0 and json.loads(out) == {"name": NAME, "code": code(NAME)}


@pytest.mark.parametrize("options", [[], ["--json"], ["--code"]])
def test_an_unknown_lesson(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    status, out, err = run(capsys, "atention", *options)
    assert status == 2 and out == "" and NAME in err and "lucidlm lesson" in err


def test_a_script_of_which_lesson(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "--code")
    assert status == 2 and out == "" and "lucidlm lesson NAME --code" in err


def test_a_lesson_says_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "word-vectors")
    assert status == 0 and "lucidlm pull glove-6b-50d" in " ".join(out.split())
