"""`check`: the functions of a Transformer that a reader wrote, compared with the true ones."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lucidlm.cli import options as o
from lucidlm.cli.session import Session
from lucidlm.errors import LucidError

TO_MEND = 2


def check(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE.py", help="cli.argument_check")
    ] = None,
    signatures: Annotated[bool, typer.Option("--signatures", help="cli.option_signatures")] = False,
    as_json: o.Json = False,
) -> None:
    """Check the file, or print one to fill in."""
    session: Session = ctx.obj
    if signatures:
        if file is not None:
            raise LucidError("check.file_and_signatures", path=file)
        show_signatures(session, as_json)
        return
    if file is None:
        raise LucidError("cli.missing", command="lucidlm check", name="FILE.py")
    from lucidlm.lessons.checking.run import check as check_file

    with session.busy(session.say("check.checking", path=file)):
        report = check_file(file)
    if as_json:
        session.answer(report.to_json(session.lang))
    else:
        from lucidlm.terminal.checks import draw_report

        draw_report(session.out, session.say, report)
    if not report.is_fine:
        raise typer.Exit(TO_MEND)


def show_signatures(session: Session, as_json: bool) -> None:
    """The functions that are checked, as a file to fill in."""
    from lucidlm.lessons.checking.functions import FUNCTIONS
    from lucidlm.lessons.checking.starter import about, starter

    code = starter(session.lang)
    if not as_json:
        sys.stdout.write(code)
        return
    functions = [
        {"name": name, "signature": f"{name}({each.signature})", "about": about(name, session.lang)}
        for name, each in FUNCTIONS.items()
    ]
    session.answer({"functions": functions, "code": code})
