"""`count` and `score`: what a model costs, and how well it predicts a text."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lucidlm.cli import options as o
from lucidlm.cli.session import Session
from lucidlm.errors import LucidError

if TYPE_CHECKING:
    from lucidlm.count import Count
    from lucidlm.hardware import Fit, Machine

NUMBER_BYTES = {"float32": 4.0, "bfloat16": 2.0}  # of a weight, by what `run --dtype` makes of it


def count(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="cli.argument_count")],
    here: Annotated[bool, typer.Option("--here", help="cli.option_here")] = False,
    as_json: o.Json = False,
) -> None:
    """Count parameters, FLOPs and memory."""
    session: Session = ctx.obj
    from lucidlm.checkpoint.load import read_config
    from lucidlm.count import count as counted

    cost = counted(read_config(name))
    machine = _measure(cost) if here else None
    if as_json:
        answer = {"model": name} | cost.to_json() | {"notes": cost.notes(session.lang)}
        session.answer(answer if machine is None else answer | {"here": _here_json(*machine)})
        return
    from lucidlm.terminal.costs import draw_cost, draw_here

    draw_cost(session.out, session.say, name, cost, session.lang)
    if machine is not None:
        draw_here(session.out, session.say, *machine)


def score(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="cli.argument_file")],
    model: o.Model = o.WRITER,
    dtype: o.Dtype = None,
    engine: o.Engine = None,
    as_json: o.Json = False,
) -> None:
    """How well a model predicts the text in a file."""
    session: Session = ctx.obj
    text = read_text(file)
    loaded = o.open_model(model, dtype, engine, session)
    begun = time.perf_counter()
    with _progress(session, session.say("cli.scoring")) as progress:
        scored = loaded.score(text, progress=progress)
    answer = {
        "model": loaded.name,
        "file": file,
        "bytes": scored.total_bytes,
        "tokens": scored.nll.size + 1,
        "perplexity": _finite(scored.perplexity),
        "bits_per_byte": _finite(scored.bits_per_byte),
        "impossible_tokens": scored.impossible.size,
        "window": scored.window,
        "stride": scored.stride,
        "seconds": time.perf_counter() - begun,
    }
    if as_json:
        session.answer(answer)
        return
    from lucidlm.terminal.lists import draw_score

    draw_score(session.out, session.say, scored)


def read_text(name: str) -> str:
    """The text of a file. Raises LucidError when it is missing, empty, or no text."""
    path = Path(name).expanduser()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise LucidError("load.no_file", path=name) from None
    except IsADirectoryError:
        raise LucidError("cli.is_folder", path=name) from None
    except OSError as error:
        raise LucidError("cli.unreadable", path=name, reason=error.strerror or str(error)) from None
    if not data.strip():
        raise LucidError("cli.empty_file", path=name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LucidError("cli.not_text", path=name, at=error.start) from None
    if "\0" in text:
        raise LucidError("cli.not_text", path=name, at=data.index(0))
    return text


def _measure(cost: Count) -> tuple[Machine, float, dict[str, Fit]]:
    """This machine, its memory's speed, and how the model fits by number format."""
    from lucidlm.hardware import fits, memory_bandwidth
    from lucidlm.hardware import here as this_machine

    machine = this_machine()
    speed = memory_bandwidth(machine.cores)
    return (
        machine,
        speed,
        {name: fits(cost, machine, speed, bytes) for name, bytes in NUMBER_BYTES.items()},
    )


def _here_json(machine: Machine, speed: float, fits: dict[str, Fit]) -> dict[str, Any]:
    from dataclasses import asdict

    found = {name: asdict(fit) for name, fit in fits.items()}
    return {"machine": asdict(machine), "memory_bytes_per_second": speed, "fits": found}


@contextmanager
def _progress(session: Session, label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress

    with Progress(console=session.err, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _finite(value: float | None) -> float | None:
    """JSON knows no infinity."""
    return value if value is None or math.isfinite(value) else None
