"""`lesson`: guided walks whose numbers are computed as they are told."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lucidlm.cli import options as o
from lucidlm.cli.session import Session
from lucidlm.errors import LucidError


def lesson(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="cli.argument_lesson")] = None,
    code: Annotated[bool, typer.Option("--code", help="cli.option_code")] = False,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="cli.option_lesson_run")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """List the lessons, or take one."""
    session: Session = ctx.obj
    from lucidlm.lessons import shelf

    if code and run is not None:
        raise LucidError("lessons.code_or_run")
    if name is None:
        if code or run is not None:
            raise LucidError("lessons.code_needs_name" if code else "lessons.run_needs_name")
        show_list(session, as_json)
    elif code:
        script = shelf.code(name)
        if as_json:
            session.answer({"name": name, "code": script})
        else:
            sys.stdout.write(script)
    else:
        shelf.folder(name)  # a wrong name is said at once
        with session.progress(session.say("lessons.computing")) as progress:
            from lucidlm.lessons.telling import rerun, tell

            if run is None:
                told = tell(name, session.lang)
            else:
                told = rerun(name, run, session.lang, progress)
        if as_json:
            session.answer(told.to_json())
            return
        from lucidlm.terminal.lesson import draw_lesson

        draw_lesson(session.out, told)


def show_list(session: Session, as_json: bool) -> None:
    """Every lesson's name and title, in the order to take them."""
    from lucidlm.lessons.shelf import names, page

    lessons = [(name, page(name, session.lang).title) for name in names()]
    if as_json:
        session.answer([{"name": name, "title": title} for name, title in lessons])
        return
    from lucidlm.terminal.lists import draw_lessons

    draw_lessons(session.out, session.say, lessons)
