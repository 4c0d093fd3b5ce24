"""What `--help` says: plain text, wrapped by the width that characters really have. No typer, no
rich: it must be quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lucidlm.cli.table import COMMANDS
from lucidlm.locale import text
from lucidlm.terminal.wrap import columns, wrap

INDENT = 2
LONGEST_NAME = 28  # columns of option names before their text goes on a line of its own


def overview(lang: str, width: int) -> str:
    """All commands with a line each."""
    commands = [(name, text(f"cli.about_{name}", lang)) for name in COMMANDS]
    options = [
        ("--lang zh|en", text("cli.option_lang", lang)),
        ("--version", text("cli.option_version", lang)),
        ("--help", text("cli.option_help", lang)),
    ]
    parts = [
        text("cli.about", lang),
        text("cli.usage", lang, usage=f"lucidlm {text('cli.usage_command', lang)} [...]"),
        _section(text("cli.commands", lang), commands, width),
        _section(text("cli.options", lang), options, width),
        wrap(text("cli.more", lang), width),
    ]
    return "\n\n".join(parts)


def command_help(name: str, params: Sequence[Any], lang: str, width: int) -> str:
    """One command: what it does, how it is called, its options in groups, examples."""
    options = [param for param in params if param.param_type_name == "option"]
    arguments = [param for param in params if param.param_type_name == "argument"]
    usage = " ".join(["lucidlm", name, *map(_usage, arguments), text("cli.usage_options", lang)])
    parts = [
        wrap(text(f"cli.about_{name}", lang), width),
        wrap(text(f"cli.details_{name}", lang), width),
    ]
    parts.append(text("cli.usage", lang, usage=usage))
    if arguments:
        rows = [(str(param.metavar), text(param.help, lang)) for param in arguments]
        parts.append(_section(text("cli.arguments", lang), rows, width))
    groups: dict[str, list[tuple[str, str]]] = {}
    for param in options:
        groups.setdefault(param.rich_help_panel or "cli.options", []).append(_option(param, lang))
    general = groups.setdefault("cli.options", [])
    general.append(("--lang zh|en", text("cli.option_lang", lang)))
    general.append(("--help", text("cli.option_help", lang)))
    parts += [_section(text(heading, lang), rows, width) for heading, rows in groups.items()]
    examples = "\n".join(" " * INDENT + example for example in COMMANDS[name].examples)
    parts.append(f"{text('cli.examples', lang)}\n{examples}")
    return "\n\n".join(parts)


def _usage(param: Any) -> str:
    name = (
        f"{param.metavar}..."
        if param.nargs == -1 and not str(param.metavar).endswith("...")
        else str(param.metavar)
    )
    return name if param.required else f"[{name}]"


def _option(param: Any, lang: str) -> tuple[str, str]:
    name = param.opts[0] if param.is_flag else f"{param.opts[0]} {param.metavar}"
    sentence = text(param.help, lang)
    if param.default not in (None, False, [], ()):
        sentence += text("cli.default", lang, value=param.default)
    return name, sentence


def _section(heading: str, rows: Iterable[tuple[str, str]], width: int) -> str:
    rows = list(rows)
    column = max(
        (columns(name) for name, _ in rows if columns(name) <= LONGEST_NAME), default=LONGEST_NAME
    )
    indent = INDENT + column + 2
    lines = [heading]
    for name, sentence in rows:
        first, *rest = wrap(sentence, width - indent).split("\n")
        start = " " * INDENT + name
        if columns(name) > column:
            lines.append(start)
            start = ""
        lines.append(start + " " * (indent - columns(start)) + first)
        lines += [" " * indent + line for line in rest]
    return "\n".join(lines)
