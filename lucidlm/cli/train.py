"""`train`: learn a model from a recipe, go on with a run that stopped, or say what one takes."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lucidlm.cli import options as o
from lucidlm.cli.session import Session
from lucidlm.errors import MissingExtra

if TYPE_CHECKING:
    from lucidlm.train.loop import Outcome, Plan

RUNS = Path("runs")  # the folder that --out leaves a run in
INTERRUPTED = 130


def train(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="cli.argument_recipe")],
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="cli.option_train_out")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="cli.option_train_set")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="cli.option_train_resume")] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", metavar="N", help="cli.option_train_processes")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="cli.option_train_dry_run")] = False,
    as_json: o.Json = False,
) -> None:
    """Train a model."""
    session: Session = ctx.obj
    from lucidlm.train.launch import ELSEWHERE, is_one_of_several, relaunch, start_several
    from lucidlm.train.recipe import read_recipe

    path = Path(recipe).expanduser()
    read = read_recipe(path, changes or ())
    try:
        if processes is not None and not is_one_of_several():
            raise typer.Exit(start_several(processes))
        relaunch()
        from lucidlm.train import devices, loop
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtra("train", "lucidlm train") from None
    from lucidlm.terminal.training import Watching, draw_outcome, draw_plan

    folder = Path(out).expanduser() if out is not None else RUNS / read.name
    found: Outcome | Plan
    try:
        with (
            devices.processes() as these,
            Watching(
                session.err,
                session.say,
                session.lang,
                live=sys.stderr.isatty(),
                quiet=as_json or not these.first,
            ) as watch,
        ):
            if dry_run:
                found = loop.plan(read, path.parent, watch, these)
            else:
                found = loop.train(
                    read, folder, base=path.parent, resume=resume, watch=watch, processes=these
                )
    except devices.Elsewhere:
        raise typer.Exit(ELSEWHERE) from None
    stopped = isinstance(found, loop.Outcome) and found.reason == "interrupted"
    if not these.first:
        pass
    elif isinstance(found, loop.Plan):
        if as_json:
            session.answer(_plan_json(found))
        else:
            draw_plan(session.out, session.say, session.lang, found)
    elif as_json:
        session.answer(_outcome_json(found))
    else:
        draw_outcome(session.out, session.say, found)
    if stopped:
        raise typer.Exit(INTERRUPTED)


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    found = asdict(outcome) | {"tokens_per_second": outcome.tokens_per_second}
    model = None if outcome.model is None else str(outcome.model)
    return found | {"folder": str(outcome.folder), "model": model}


def _plan_json(plan: Plan) -> dict[str, Any]:
    memory = asdict(plan.memory) | {"needed": plan.memory.needed}
    return asdict(plan) | {"seconds": plan.seconds, "memory": memory}
