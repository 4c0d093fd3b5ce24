"""From a function to a command line: typer reads its signature and the arguments, the texts come
from our locale.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import sys
import typing
from typing import Any

import typer

from lucidlm.cli.help import command_help
from lucidlm.cli.session import Session
from lucidlm.cli.table import COMMANDS
from lucidlm.errors import LucidError, nearest

UsageError: type[Exception] = typer.BadParameter.__bases__[
    0
]  # wherever this version of typer keeps it


def build(name: str) -> Any:
    """The command called `name`, its module imported."""
    function = getattr(importlib.import_module(f"lucidlm.cli.{COMMANDS[name].module}"), name)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {
        "ignore_unknown_options": COMMANDS[name].signs,
        "help_option_names": [],
    }  # help is ours
    app.command(name, context_settings=settings)(function)
    return typer.main.get_command(app)


def run_command(name: str, arguments: list[str], session: Session) -> int:
    """Parse `arguments`, run the command, return its exit code. A usage error is a LucidError."""
    command = build(name)
    if "--help" in itertools.takewhile(lambda argument: argument != "--", arguments):
        sys.stdout.write(command_help(name, command.params, session.lang, session.width) + "\n")
        return 0
    try:
        with command.make_context(f"lucidlm {name}", arguments, obj=session) as ctx:
            command.invoke(ctx)
    except typer.Exit as done:
        return done.exit_code
    except UsageError as error:
        raise usage_error(error, command) from None
    return 0


def usage_error(error: Any, command: Any) -> LucidError:
    """typer's complaint about the arguments as one of ours."""
    at = f"lucidlm {command.name}"
    param = getattr(error, "param", None)
    match type(error).__name__:
        case "NoSuchOption":
            known = [
                option
                for param in command.params
                for option in param.opts
                if option.startswith("-")
            ]
            near = ", ".join(nearest(error.option_name, known))
            return LucidError(
                "cli.no_such_option", command=at, option=error.option_name, nearest=near
            )
        case "BadOptionUsage":
            flags = {
                option
                for param in command.params
                if getattr(param, "is_flag", False)
                for option in param.opts
            }
            key = "cli.option_is_flag" if error.option_name in flags else "cli.option_needs_value"
            return LucidError(key, command=at, option=error.option_name)
        case "MissingParameter" if param is not None:
            return LucidError("cli.missing", command=at, name=param.metavar or param.name.upper())
        case "BadParameter" if param is not None:
            kind = (
                "cli.bad_whole" if int in _types(command.callback, param.name) else "cli.bad_number"
            )
            return LucidError(kind, command=at, name=param.opts[0])
    extra = re.search(r" \((.*)\)$", str(error))
    return LucidError("cli.extra_arguments", command=at, words=extra[1] if extra else str(error))


def _types(function: Any, name: str) -> set[Any]:
    """The types that a parameter of `function` may have."""
    hint = typing.get_type_hints(inspect.unwrap(function)).get(name)
    return {hint, *typing.get_args(hint)}
