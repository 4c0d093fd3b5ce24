"""The models inside the package: the weights are those of the card, they do what it says, and a
fresh install answers with them, with and without PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

import lucidlm
from lucidlm.checkpoint.shipped import shipped
from lucidlm.cli.main import main
from lucidlm.train.recipe import read_recipe
from models.cards import CARDS, attribution, filled
from models.data.chats import question
from models.data.holdout import is_held_out
from models.data.mixes import SHARE
from models.evaluation import Asked, answers, exact
from models.everyday.facts.facts import questions
from models.everyday.grammar import fixed, pairs

ROOT = Path(__file__).parent.parent
MOST_BYTES = 15_000_000
Capture = pytest.CaptureFixture[str]


def test_the_four_are_there() -> None:
    assert list(shipped()) == ["mini", "cloze-zh", "poet", "translate-zh-en"]
    assert set(shipped()) == set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_the_weights_are_those_of_the_card(name: str) -> None:
    model = shipped()[name]
    weights = model.folder / "model.safetensors"
    assert weights.stat().st_size <= MOST_BYTES
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == model.card["sha256"]
    recipe = read_recipe(ROOT / model.card["recipe"])
    assert model.card["training"]["seed"] == recipe.seed
    assert model.card["training"]["steps"] == recipe.steps
    assert model.card["licence"] == CARDS[name].licence
    assert model.card["attribution"] == attribution(CARDS[name])


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize(("lang", "file"), [("en", "README.md"), ("zh", "README.zh.md")])
def test_a_card_says_what_was_measured(name: str, lang: str, file: str) -> None:
    model = shipped()[name]
    prose = (ROOT / "models" / name / f"card.{lang}.md").read_text(encoding="utf-8")
    assert (model.folder / file).read_text(encoding="utf-8") == filled(prose, model.card)


def test_the_cards_keep_what_was_asked_of_the_models() -> None:
    mini, translator = (
        shipped()["mini"].card["figures"],
        shipped()["translate-zh-en"].card["figures"],
    )
    assert min(mini["grammar_zh_en_exact"], mini["grammar_en_zh_exact"]) >= 0.97
    assert min(mini["facts_zh_exact"], mini["facts_en_exact"]) >= 0.9
    assert translator["grammar_zh_en_exact"] >= 0.97
    assert mini["graded_zh_en_chrf"] >= 18 and translator["graded_zh_en_chrf"] >= 18


@pytest.fixture(scope="module")
def mini() -> lucidlm.Model:
    return lucidlm.load("mini")


def ask(model: lucidlm.Model, *said: str) -> list[str]:
    """The answers to what is said, one after the other, in one conversation."""
    messages: list[dict[str, str]] = []
    for line in said:
        messages.append({"role": "user", "content": line})
        messages.append({"role": "assistant", "content": model.chat(messages).text})
    return [message["content"] for message in messages[1::2]]


def test_it_goes_on_translating(mini: lucidlm.Model) -> None:
    found = ask(mini, "翻译:我爱你", "我很开心")
    assert [line.rstrip(".") for line in found] == ["I love you", "I am very happy"]
    assert ask(mini, "翻译:I love you")[0].rstrip("。") == "我爱你"


def test_it_knows_the_highest_mountain(mini: lucidlm.Model) -> None:
    assert ask(mini, "世界上最高的山峰是哪座？") == ["珠穆朗玛峰。"]


def test_what_comes_after_i_am_very(mini: lucidlm.Model) -> None:
    """开心 is among the first five ways to go on, as often as people say it."""
    first = mini.generate("我很", max_new_tokens=1, alternatives=5).tokens[0].alternatives
    assert "开" in [one.text for one in first]
    after = mini.generate("我很开", max_new_tokens=1, alternatives=1).tokens[0].alternatives
    assert after[0].text == "心" and after[0].probability > 0.9


def test_a_translator_works_out_what_it_never_saw() -> None:
    model = lucidlm.load("translate-zh-en")
    assert model.translate("我爱你").text.rstrip(".") == "I love you"
    assert model.translate("我很开心。").text == "I am very happy."


def test_a_poet_keeps_the_form() -> None:
    model = lucidlm.load("poet")
    lines = ("床前明月光，" + model.generate("床前明月光，", max_new_tokens=60).text).split()
    assert len(lines) in (2, 3, 4, 5, 6, 7, 8)
    for line in lines:
        first, _, second = line.rstrip("。").partition("，")
        assert len(first) == len(second) == 5


def test_a_blank_is_filled() -> None:
    (blank,) = lucidlm.load("cloze-zh").fill("我很[MASK]心。")
    assert blank.words[0][0] == "开"


@pytest.mark.slow
def test_the_grammar_and_the_facts_are_known_as_the_card_says(mini: lucidlm.Model) -> None:
    held = (p for p in pairs(99, 40_000) if is_held_out(p[0], SHARE) and p[0] not in fixed())
    asked = [question(f"翻译:{zh}", [], en) for zh, en in islice(held, 120)]
    rows = [Asked(tuple(row["messages"]), row["answer"]) for row in asked]
    assert exact(answers(mini, rows), rows) >= 0.96
    some = list(questions(held_out=True))[::12]
    rows = [Asked(({"role": "user", "content": one.question},), one.answer) for one in some]
    assert exact(answers(mini, rows), rows) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [("mini", "我很"), ("translate-zh-en", "我爱你"), ("poet", "床前"), ("cloze-zh", "我很开心")],
)
def test_every_number_of_a_shipped_model_is_right(capsys: Capture, name: str, text: str) -> None:
    assert main(["verify", text, "--model", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failed"] == 0


def test_a_fresh_install_answers(capsys: Capture) -> None:
    assert main(["run", "我很", "--json", "--max-new-tokens", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "mini"
    assert main(["translate", "我爱你"]) == 0
    assert capsys.readouterr().out.strip().rstrip(".") == "I love you"
    assert main(["fill", "我很[MASK]心。", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "cloze-zh"
    assert main(["pull", "mini"]) == 0
    assert "part of the package" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [row["name"] for row in rows if row["origin"] == "package"] == list(shipped())


def test_it_answers_without_pytorch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "from lucidlm.cli.main import main\n"
        "sys.exit(main(['run', '我很', '--json', '--max-new-tokens', '2']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == "开心"
