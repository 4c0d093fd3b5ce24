"""English and Chinese say the same things, and nothing is said that no code says."""

from __future__ import annotations

import ast
import json
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lucidlm.locale import LANGUAGES, preferred, text

PACKAGE = Path(__file__).parent.parent / "lucidlm"
FOLDER = PACKAGE / "locale"
AREAS = sorted(path.stem for path in (FOLDER / "en").glob("*.json"))
ANYTHING = "[a-z0-9_-]+"
FILE_ENDINGS = {"json", "jsonl", "py", "npy", "gguf", "safetensors", "model", "txt", "bin", "md"}


def texts(lang: str, area: str) -> dict[str, str]:
    """The texts of one area; a name given twice is an error."""

    def unique(pairs: list[tuple[str, str]]) -> dict[str, str]:
        assert len(pairs) == len(dict(pairs)), f"a name twice in {lang}/{area}.json"
        return dict(pairs)

    source = (FOLDER / lang / f"{area}.json").read_text(encoding="utf-8")
    return dict(json.loads(source, object_pairs_hook=unique))


def fields(template: str) -> set[str]:
    """The names that `template` wants filled in; `{path!r}` is `path`."""
    found = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    return {re.split(r"[.\[]", name)[0] for name in found}


def test_both_languages_have_the_same_areas() -> None:
    assert AREAS == sorted(path.stem for path in (FOLDER / "zh").glob("*.json"))
    assert AREAS


@pytest.mark.parametrize("area", AREAS)
def test_both_languages_have_the_same_texts_and_fields(area: str) -> None:
    english, chinese = texts("en", area), texts("zh", area)
    assert set(english) == set(chinese)
    for name in english:
        assert fields(english[name]) == fields(chinese[name]), name
        assert "" not in fields(english[name]), f"{name}: a field without a name"


@pytest.mark.parametrize("area", AREAS)
def test_the_chinese_is_chinese_and_the_english_is_not(area: str) -> None:
    for name, english in texts("en", area).items():
        chinese = texts("zh", area)[name]
        assert "\ufffd" not in english + chinese, name
        assert not re.search(r"[\u4e00-\u9fff]{4}", english), f"{name}: Chinese in the English text"
        prose = re.sub(r"\{[^}]*\}|`[^`]*`", "", english)
        if len(re.findall(r"[A-Za-z]{2,}", prose)) > 2:
            assert re.search(r"[\u4e00-\u9fff]", chinese), f"{name}: not translated"


@cache
def mentions() -> tuple[tuple[str, str], ...]:
    """Place and pattern of every key in the code; an f-string's fields stand for anything."""
    return tuple(_mentions())


def _mentions() -> Iterator[tuple[str, str]]:
    key = re.compile(rf"(?:{'|'.join(AREAS)})\.([a-z0-9_-]+)")
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        made = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        pieces = {id(piece) for node in made for piece in node.values}
        for node in ast.walk(tree):
            place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            match node:
                case ast.JoinedStr(values=[ast.Constant(value=str(start)), *_]):
                    if "." in start and start.partition(".")[0] in AREAS:
                        yield place, _pattern(node)
                case ast.Constant(value=str(word)) if id(node) not in pieces:
                    if (found := key.fullmatch(word)) and (
                        word in KEYS or found[1] not in FILE_ENDINGS
                    ):
                        yield place, re.escape(word)


def _pattern(node: ast.JoinedStr) -> str:
    return "".join(
        re.escape(str(part.value)) if isinstance(part, ast.Constant) else ANYTHING
        for part in node.values
    )


KEYS = {f"{area}.{name}" for area in AREAS for name in texts("en", area)}


def test_every_text_that_code_names_exists() -> None:
    found = mentions()
    missing = [at for at, key in found if not any(re.fullmatch(key, k) for k in KEYS)]
    assert not missing


def test_no_made_up_key_covers_a_whole_area() -> None:
    """Else the next test would not see an unused text there."""
    sweeping = {re.escape(f"{area}.") + ANYTHING for area in AREAS}
    assert not [at for at, key in mentions() if key in sweeping]


def test_every_text_is_used() -> None:
    used = {key for _, key in mentions()}
    assert not [key for key in sorted(KEYS) if not any(re.fullmatch(k, key) for k in used)]


def test_a_text_is_filled_in() -> None:
    assert text("errors.missing_extra", "en", extra="torch", purpose="x").count("torch")
    assert set(LANGUAGES) == {"en", "zh"}


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({"LUCIDLM_LANG": "zh", "LANG": "en_US.UTF-8"}, "zh"),
        ({"LUCIDLM_LANG": "en", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LANG": "zh_TW.UTF-8"}, "zh"),
        ({"LC_ALL": "de_DE.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
    ],
)
def test_the_language_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], language: str
) -> None:
    for name in ("LUCIDLM_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert preferred() == language
