"""`doctor`: which engines this installation has, what they compute with, and which one is used."""

from __future__ import annotations

from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

import typer

from lucidlm.cli import options as o
from lucidlm.cli.session import Session


def doctor(ctx: typer.Context, as_json: o.Json = False) -> None:
    """Say which engines are here and which one is used."""
    session: Session = ctx.obj
    from lucidlm.hardware import here

    machine = here()
    gpu = machine.largest_gpu
    torch, native = _torch(gpu.name if gpu else "CPU"), _native()
    used = "native" if native else "torch" if torch else "reference"
    if as_json:
        engines = {"torch": torch, "native": native, "reference": {"dtype": "float64"}}
        session.answer({"cores": machine.cores, "used": used, "engines": engines})
        return
    lines = [session.say("doctor.machine", cores=machine.cores)]
    lines.append(session.say("doctor.torch", **torch) if torch else session.say("doctor.no_torch"))
    if native:
        said = native | {"available": ", ".join(native["available"])}
        lines.append(session.say("doctor.native", **said, threads=machine.cores))
    else:
        lines.append(session.say("doctor.no_native"))
    lines += [session.say("doctor.reference"), session.say(f"doctor.used_{used}")]
    for line in lines:
        session.out.print(line, soft_wrap=True)


def _torch(device: str) -> dict[str, Any] | None:
    """PyTorch's version and what it computes on; None where it is not installed."""
    if find_spec("torch") is None:
        return None
    return {"version": metadata.version("torch"), "device": device}


def _native() -> dict[str, Any] | None:
    """The instructions that the native engine uses, and those that it could; None where it was not
    built, or is not wanted.
    """
    from lucidlm.backends import native

    if native.missing():
        return None
    found: list[str] = import_module("lucidlm.backends._native").instructions()
    return {"instructions": found[0], "available": found}
