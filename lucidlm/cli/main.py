"""`lucidlm COMMAND ...`: finds the command, speaks the user's language, and turns every failure
into a sentence.

Only the command that was asked for is imported, and for the overview none: `lucidlm --help` costs
little more than Python. Exit codes: 0; 2 for what the user can mend; 1 for a fault of the program;
130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from lucidlm.cli.help import overview
from lucidlm.cli.session import Session
from lucidlm.cli.table import COMMANDS
from lucidlm.errors import LucidError, UnknownName
from lucidlm.locale import LANGUAGES, preferred

USER, PROGRAM, INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code. Only the command's answer goes to stdout."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    session = Session(preferred())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # in another encoding, what it lacks shows as \u597d
            stream.reconfigure(errors="backslashreplace")
    try:
        lang, given = take_language(given)
        session = Session(lang or session.lang)
        code = dispatch(given, session)
        sys.stdout.flush()  # a reader that has gone shows here, not in Python's own last words
        return code
    except LucidError as error:
        session.complain(error.message(session.lang))
        return USER
    except KeyboardInterrupt:
        session.complain(session.say("cli.interrupted"), error=False)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PROGRAM
    except Exception as error:
        if os.environ.get("LUCIDLM_DEBUG"):
            traceback.print_exc()
        kind = type(error).__name__
        session.complain(session.say("cli.internal", kind=kind, reason=_first_line(error)))
        return PROGRAM


def dispatch(arguments: list[str], session: Session) -> int:
    """Run the command that `arguments` begin with."""
    if not arguments or arguments[0] == "--help":
        sys.stdout.write(overview(session.lang, session.width) + "\n")
        return 0
    if arguments[0] == "--version":
        from lucidlm import __version__

        sys.stdout.write(f"lucidlm {__version__}\n")
        return 0
    name, *rest = arguments
    if name.startswith("-"):
        raise LucidError(
            "cli.no_such_option",
            command="lucidlm",
            option=name,
            nearest="--help, --lang, --version",
        )
    if name not in COMMANDS:
        raise UnknownName("cli.no_such_command", name, COMMANDS)
    from lucidlm.cli.build import run_command

    return run_command(name, rest, session)


def take_language(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """(language or None, the other arguments): `--lang` may stand before or after the command."""
    lang, rest = None, list(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    for at in reversed(range(end)):
        name, equals, value = rest[at].partition("=")
        if name != "--lang":
            continue
        if equals:
            del rest[at]
        elif at + 1 < end:
            value = rest[at + 1]
            del rest[at : at + 2]
            end -= 1
        else:
            raise LucidError("cli.option_needs_value", command="lucidlm", option="--lang")
        end -= 1
        if value not in LANGUAGES:
            raise LucidError("cli.no_such_language", name=value, choices=", ".join(LANGUAGES))
        lang = lang or value
    return lang, rest


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["-"])[0][:300]
