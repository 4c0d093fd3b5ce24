"""The file that a reader fills in: every function with its docstring, and nothing in it."""

from __future__ import annotations

from lucidlm.lessons.checking.functions import FUNCTIONS
from lucidlm.locale import text

INDENT = "    "


def starter(lang: str) -> str:
    """Python source with the docstrings in `lang`."""
    head = text("check.starter_head", lang)
    imports = f"import numpy as np  # {text('check.starter_import', lang)}"
    return (
        "\n\n\n".join([f'"""{head}\n"""\n\n{imports}', *(_stub(n, lang) for n in FUNCTIONS)]) + "\n"
    )


def about(name: str, lang: str) -> str:
    """What a function takes and gives."""
    return text(f"check.about_{name}", lang)


def _stub(name: str, lang: str) -> str:
    lines = about(name, lang).split("\n")
    end = '"""' if len(lines) == 1 else f'\n{INDENT}"""'
    body = f"\n{INDENT}".join(lines)
    return (
        f"def {name}({FUNCTIONS[name].signature}):\n"
        f'{INDENT}"""{body}{end}\n'
        f"{INDENT}raise NotImplementedError"
    )
