"""Lessons: the two languages walk the same way, no number is written down, and everything runs."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from lucidlm.errors import UnknownName
from lucidlm.lessons.kinds import Figures, Inline
from lucidlm.lessons.page import EXPRESSION, Page, parse, spans
from lucidlm.lessons.shelf import code, folder, names, page
from lucidlm.lessons.telling import FIELD, Told, Words, lesson, tell
from lucidlm.locale import LANGUAGES
from lucidlm.terminal.lesson import draw_lesson
from lucidlm.terminal.wrap import columns

LESSONS = names()
MODELS = {model for name in LESSONS for n in lesson(name).needs.values() for model in n.models}
NAME = re.compile(r"`[A-Za-z][\w.-]*(?: [A-Za-z-][\w.-]*)*`")  # one or more, as in a command


def prose(page: Page) -> list[str]:
    """Everything a reader is told that is not computed: no expressions, no names in code."""
    texts = [page.title, *page.terms.values()]
    texts += [
        text for beat in page.beats for text in (beat.heading, *(p.source for p in beat.parts))
    ]
    bare = [FIELD.sub("", EXPRESSION.sub("", text)) for text in texts]
    return [NAME.sub("", text) for text in bare]


def drawn(told: Told, width: int) -> str:
    out = io.StringIO()
    draw_lesson(Console(width=width, file=out, markup=False, highlight=False), told)
    return out.getvalue()


def test_the_lessons_of_the_articles_are_here() -> None:
    known = ["attention-by-hand", "one-head", "one-layer", "one-word", "encoder-decoder"]
    known += ["tokens", "word-vectors", "context", "parameters", "families", "counting", "joining"]
    known += ["parts"]
    assert [name for name in LESSONS if name in known] == known


@pytest.mark.parametrize("name", LESSONS)
def test_both_languages_walk_the_same_way(name: str) -> None:
    english, chinese = (page(name, lang) for lang in LANGUAGES)
    assert [beat.id for beat in english.beats] == [beat.id for beat in chinese.beats]
    for one, two in zip(english.beats, chinese.beats, strict=True):
        assert one.expressions == two.expressions, one.id
        assert [p.kind for p in one.parts] == [p.kind for p in two.parts], one.id
    terms = [{key: set(FIELD.findall(t)) for key, t in p.terms.items()} for p in (english, chinese)]
    assert terms[0] == terms[1]


@pytest.mark.parametrize("name", LESSONS)
def test_the_chinese_is_chinese(name: str) -> None:
    english, chinese = (page(name, lang) for lang in LANGUAGES)
    assert all(re.search(r"[\u4e00-\u9fff]", beat.heading) for beat in chinese.beats)
    for one, two in zip(english.beats, chinese.beats, strict=True):
        for written, translated in zip(one.parts, two.parts, strict=True):
            if written.kind in ("paragraph", "item") and len(written.source) > 40:
                assert re.search(r"[\u4e00-\u9fff]", translated.source), translated.source
                assert not re.search(r"[\u4e00-\u9fff][,;?!]", translated.source), translated.source


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", LESSONS)
def test_no_number_is_written_down(name: str, lang: str) -> None:
    assert not [text for text in prose(page(name, lang)) if any(map(str.isdigit, text))]


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_computes_what_it_shows_and_no_more(name: str) -> None:
    """Every expression is computed wherever no model is needed, and every value and term used."""
    prose_, what = page(name, "en"), lesson(name)
    source = "".join(path.read_text(encoding="utf-8") for path in folder(name).glob("*.py"))
    said: set[str] = set()

    class Listening(Words):
        def __call__(self, key: str, /, **values: Inline) -> str:
            said.add(key)
            return super().__call__(key, **values)

    computed = {f"article.{key}" for key in what.article} | set(
        what.values(Listening("en", prose_.terms))
    )
    assert not [term for term in prose_.terms if term not in said and f'"{term}"' not in source]
    shown = {found for beat in prose_.beats for found, _ in beat.expressions}
    always = [beat for beat in prose_.beats if beat.id not in what.needs]
    assert {found for beat in always for found, _ in beat.expressions} <= computed
    assert not {key for key in computed if not key.startswith("article.")} - shown
    assert set(what.needs) <= {beat.id for beat in prose_.beats}


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_where_no_model_is(name: str, lang: str) -> None:
    told = tell(name, lang)
    check(told, lang)
    for beat in told.beats:
        needs = lesson(name).needs.get(beat.id)
        models = needs.models if needs else ()  # without any it is PyTorch that it needs
        assert (beat.needs is not None) == bool(models)
        assert not models or f"`lucidlm pull {models[0]}`" in str(beat.needs)


@pytest.mark.slow
@pytest.mark.checkpoint(*sorted(MODELS))
@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", [name for name in LESSONS if lesson(name).needs])
def test_a_lesson_runs_with_its_models(name: str, lang: str) -> None:
    told = tell(name, lang)
    check(told, lang)
    assert not [beat.needs for beat in told.beats if beat.needs]
    for beat in told.beats:
        assert beat.text.strip()


def check(told: Told, lang: str) -> None:
    """What is told is whole, can be written as JSON, and fits on a terminal."""
    answer = json.loads(json.dumps(told.to_json(), ensure_ascii=False, allow_nan=False))
    assert answer["title"] == page(told.name, lang).title and answer["name"] == told.name
    assert all(beat["text"].strip() and beat["heading"] for beat in answer["beats"])
    for figure in answer["figures"]:
        assert figure["name"] and figure["reason"] and {"article", "true"} <= set(figure)
    written = json.dumps(answer, ensure_ascii=False)
    for width in (80, 100):
        shown = drawn(told, width)
        written += shown
        assert max(map(columns, shown.splitlines())) <= width
        assert "".join(told.title.split()) in "".join(shown.split())
    assert "{{" not in written and "{at" not in written and "\ufffd" not in written
    assert not re.search(r"-0\.0+\b(?!\d)", written)


@pytest.mark.parametrize("name", LESSONS)
def test_a_script_runs_by_itself(name: str) -> None:
    command = [sys.executable, "-W", "error", "-"]
    done = subprocess.run(
        command, input=code(name), capture_output=True, text=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and done.stderr == ""


def test_lessons_that_need_no_model_need_no_torch() -> None:
    alone = [name for name in LESSONS if not lesson(name).needs]
    assert {"counting", "joining", "attention-by-hand"} <= set(alone)
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from lucidlm.lessons.telling import tell\n"
        f"for name in {alone}:\n"
        "    for lang in ('en', 'zh'):\n"
        "        assert not [beat.needs for beat in tell(name, lang).beats if beat.needs]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.checkpoint("smollm2-135m")
def test_without_torch_a_beat_says_what_it_needs() -> None:
    """And without the native engine, which runs everything too."""
    program = (
        "import os, sys; sys.modules['torch'] = None; os.environ['LUCIDLM_NATIVE'] = '0'\n"
        "from lucidlm.lessons.telling import tell\n"
        "print(*(beat.needs for beat in tell('context', 'en').beats if beat.needs), sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.count("pip install 'lucidlm[torch]'") == len(lesson("context").needs)


@pytest.mark.parametrize("name", ["", ".", "..", "../cli", "attention_by_hand", "kinds", "x\0y"])
def test_an_unknown_lesson_names_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName):
        tell(name, "en")
    with pytest.raises(UnknownName) as error:
        folder("attention-by-hands")
    assert error.value.nearest[0] == "attention-by-hand"


def test_a_page_is_read_as_it_is_written() -> None:
    found = parse(
        "# T\n\n## One {#one}\nA **b** `c`\nd {{x:.2f}}\n\n- i\n- j\n\n{{table}}\n\n"
        "```\n{{y}} = z\n```\n\n## 二 {#two}\n好的\n好\n\n[^a]: one {n} | two\n"
    )
    one, two = found.beats
    assert [(p.kind, p.source) for p in one.parts] == [
        ("paragraph", "A **b** `c` d {{x:.2f}}"),
        ("item", "i"),
        ("item", "j"),
        ("block", "{{table}}"),
        ("code", "{{y}} = z"),
    ]
    assert one.expressions == {("x", ".2f"), ("table", ""), ("y", "")}
    assert [p.source for p in two.parts] == ["好的好"] and found.terms == {"a": "one {n} | two"}
    assert spans("A **b** `c`") == [("A ", ""), ("b", "strong"), (" ", ""), ("c", "code")]


@pytest.mark.parametrize(
    "source",
    ["", "## A {#a}", "# T\nx\n## A {#a}", "# T\n## A\nx", "# T\n## A {#a}\n[^x]: y\n[^x]: z"],
)
def test_what_is_no_page_is_refused(source: str) -> None:
    with pytest.raises(ValueError):
        parse(source)


def test_every_comparison_of_a_lesson_is_in_its_answer() -> None:
    told = tell("parameters", "en")
    shown = [v for beat in told.beats for v in beat.values.values() if isinstance(v, Figures)]
    assert len(told.to_json()["figures"]) == sum(len(figures.rows) for figures in shown) > 0


def test_a_lesson_is_one_folder() -> None:
    for name in LESSONS:
        files = {path.name for path in folder(name).iterdir() if path.suffix in (".py", ".md")}
        assert files >= {"lesson.py", "code.py", "en.md", "zh.md"}
        assert folder(name).parent == Path(sys.modules[tell.__module__].__file__ or "").parent
