"""Everything the program says, in English and Chinese.

Texts live in `locale/{en,zh}/AREA.json`, flat objects of `name: template` in `str.format` notation;
the key of a text is `AREA.name`. A test holds the two languages' keys, and the fields inside each
text, equal.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "zh")


def text(key: str, lang: str = "en", /, **values: object) -> str:
    """The text called `key` in `lang`, with its fields filled in."""
    area, _, name = key.partition(".")
    return _area(area, lang)[name].format(**values)


def preferred() -> str:
    """The user's language from LUCIDLM_LANG or the locale: "zh" for any Chinese, else "en"."""
    for name in ("LUCIDLM_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    import locale

    return "zh" if (locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"


@cache
def _area(area: str, lang: str) -> dict[str, str]:
    path = Path(__file__).parent / lang / f"{area}.json"
    texts: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return texts
