"""A trace as one HTML file: the six stages of every chosen word, heat maps of attention, the logit
lens, and the arithmetic behind the numbers that were asked about.

The file holds its style, its script and its data, and asks nothing of any other place. Whatever
text came from outside (prompt, tokens, names) is in the data, which the script puts on the page as
text.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from lucidlm.errors import TraceError
from lucidlm.files import write_atomic
from lucidlm.locale import LANGUAGES, text
from lucidlm.trace.explain import Explanation
from lucidlm.trace.explain import explain as explain_cell
from lucidlm.trace.report.maps import BUDGET, heat_maps
from lucidlm.trace.report.stages import words
from lucidlm.trace.report.summary import summary
from lucidlm.trace.run import Run

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("base", "tokens", "stages", "ladder", "maps", "cards", "main")
_SAID = re.compile(r'(?:say\(\s*|data-say=)"(\w+)"')  # what the page's script and markup ask for
FIELDS = ("n", "every", "position", "token", "layer", "head", "value", "id", "low", "high", "place")


def html(
    run: Run,
    explain: Sequence[str] = (),
    lang: str = "en",
    maps: Sequence[str] | None = None,
    budget: int = BUDGET,
) -> str:
    """The page of a trace, in English and Chinese; it opens in `lang`.

    `explain` are addresses of single numbers whose arithmetic is on the page, that of their largest
    operands with them. `maps` are patterns of the attention patterns to draw (`layers.3.*`); None
    draws as many layers as fit into `budget` bytes, evenly spread, and says which.

    Raises TraceError or UnknownName for an address or a pattern that names nothing.
    """
    data = {
        **summary(run),
        "words": words(run),
        "maps": heat_maps(run, maps, budget),
        **_cards(run, explain),
        "texts": {lang: _texts(lang) for lang in LANGUAGES},
    }
    page = {
        "title": escape(run.name),
        "lang": {"zh": "zh-Hans"}.get(lang, lang),
        "style": _read("page.css") + _read("pictures.css"),
        "script": _script(),
        "data": _in_script(data),
    }
    said = data["texts"][lang]
    markup = re.sub(
        r'data-say="(\w+)">', lambda found: found[0] + escape(said[found[1]]), _read("page.html")
    )
    return re.sub(r"\{\{(\w+)\}\}", lambda found: page[found[1]], markup)


def write_html(
    run: Run,
    path: str | os.PathLike[str],
    explain: Sequence[str] = (),
    lang: str = "en",
    maps: Sequence[str] | None = None,
) -> None:
    """`html` as a file. Raises TraceError where it cannot be written."""
    page = html(run, explain, lang, maps)
    try:
        write_atomic(Path(path), page.encode("utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise TraceError("trace.cannot_write", path=path, reason=reason) from None


def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _script() -> str:
    return "\n".join(_read(f"{name}.js") for name in SCRIPTS)


def _texts(lang: str) -> dict[str, str]:
    """Every text that the page asks for, its fields still open."""
    names = sorted(set(_SAID.findall(_read("page.html") + _script())))
    fields = {field: f"{{{field}}}" for field in FIELDS}
    return {name: text(f"report.page_{name}", lang, **fields) for name in names}


def _cards(run: Run, addresses: Sequence[str]) -> dict[str, Any]:
    """The explanations asked for, and those of their operands, by address."""
    asked = [explain_cell(run, address, depth=1) for address in addresses]
    every = [one for found in asked for _, one in found.walk()]
    cards = {one.address: _card(one) for one in every}
    return {"asked": [one.address for one in asked], "cards": cards}


def _card(one: Explanation) -> dict[str, Any]:
    card = one.to_json()
    del card["inner"]
    for noun in ("words", "note"):
        card[noun] = {lang: getattr(one, noun)(lang) for lang in LANGUAGES}
    return card


def _in_script(data: object) -> str:
    """JSON that no markup inside can end: `<` is spelled out."""
    packed = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return packed.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
