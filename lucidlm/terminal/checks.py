"""A reader's functions, checked: one line for each, and for a wrong one where and probably why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from lucidlm.lessons.checking.verdict import Report, Verdict
from lucidlm.terminal.show import harmless, paragraph

if TYPE_CHECKING:
    from rich.console import Console

Say = Callable[..., str]
MARKS = {"right": ("✓ ", "green"), "unwritten": ("· ", "dim")}
WRONG = ("✗ ", "bold red")
INDENT = 4
DIGITS = 6


def draw_report(console: Console, say: Say, report: Report) -> None:
    """Every function of the file, and what is left to mend."""
    count = len(report.verdicts)
    paragraph(console, say(f"check.heading_{report.library}", file=report.file, count=count))
    console.print()
    width = max(len(verdict.function) for verdict in report.verdicts)
    for verdict in report.verdicts:
        mark, style = MARKS.get(verdict.status, WRONG)
        line = Text(mark, style=style).append(verdict.function, "not dim bold")
        if verdict.is_fine:
            line.append(" " * (width + 2 - len(verdict.function)) + finding(verdict, say))
            console.print(line)
        else:
            console.print(line)
            _draw_fault(console, say, verdict)
    wrong = [verdict.function for verdict in report.verdicts if not verdict.is_fine]
    console.print()
    if wrong:
        paragraph(
            console, say("check.some_wrong", names=say("lessons.comma").join(wrong)), style="bold"
        )
    elif all(verdict.status == "right" for verdict in report.verdicts):
        console.print(Text(say("check.all_right"), style="bold green"))


def finding(verdict: Verdict, say: Say) -> str:
    """What came out, in one sentence."""
    status, detail = verdict.status, harmless(verdict.detail or "")
    if status in ("wrong", "nan"):
        values = {"expected": _number(verdict.expected), "found": _number(verdict.found)}
        if not verdict.cell:
            return say("check.status_id", **values)
        counts = {"wrong": verdict.wrong, "cells": verdict.cells}
        return say(f"check.status_{status}", cell=list(verdict.cell), **values, **counts)
    if status == "shape":
        shapes = [_shape(shape or ()) for shape in (verdict.expected_shape, verdict.found_shape)]
        return say("check.status_shape", expected=shapes[0], found=shapes[1])
    if status == "type" and detail == "None":
        return say("check.status_nothing")
    if status in ("raised", "endless") and verdict.line is not None:
        return say(f"check.status_{status}_at", detail=detail, line=verdict.line)
    kind = "dtype_id" if status == "dtype" and verdict.gives_id else status
    return say(f"check.status_{kind}", detail=detail, calls=verdict.calls)


def _draw_fault(console: Console, say: Say, verdict: Verdict) -> None:
    case = say(f"check.case_{verdict.case}", site=verdict.site)
    paragraph(console, finding(verdict, say), first=" " * INDENT, indent=INDENT)
    call = say("check.in_call", call=verdict.call, case=case)
    paragraph(console, call, first=" " * INDENT, indent=INDENT, style="dim")
    for at, name in enumerate(verdict.causes):
        key = "check.cause_more" if at else "check.cause"
        cause = say(key, cause=say(f"check.mistake_{name}"))
        paragraph(console, cause, first=" " * INDENT, indent=INDENT, style="yellow")


def _number(value: float | None) -> str:
    return f"{value:.{DIGITS}g}" if value is not None else "-"


def _shape(shape: Sequence[int]) -> str:
    return str(tuple(shape))
