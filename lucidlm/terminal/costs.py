"""What a model costs, drawn: parameters by part, FLOPs and cache by context, training memory, and
whether it fits here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from lucidlm.terminal.show import bar, columns, paragraph, percent, short, size, whole

if TYPE_CHECKING:
    from rich.console import Console

    from lucidlm.count import Count
    from lucidlm.hardware import Fit, Machine

Say = Callable[..., str]
BAR = 16  # columns


def draw_cost(console: Console, say: Say, name: str, cost: Count, lang: str) -> None:
    """The whole count, with how it was counted below."""
    config = cost.config
    kind = say(f"terminal.kind_{config.kind.replace('-', '_')}")
    shape = say("terminal.shape", kind=kind, dim=config.dim)
    console.print(Text(name, style="bold").append(f"  {shape}", style="not bold dim"))
    table = columns("", "", "", "", right=(1, 3))
    for part, amount in asdict(cost.parts).items():
        if amount:
            share = amount / cost.parameters
            row = (say(f"count.part_{part}"), whole(amount), Text(bar(share, BAR), style="cyan"))
            table.add_row(*row, Text(percent(share), style="dim"))
    total = Text(whole(cost.parameters), style="bold green")
    table.add_row(Text(say("terminal.parameters"), style="bold"), total, short(cost.parameters), "")
    console.print()
    console.print(Padding.indent(table, 2))
    console.print()
    found = cost.to_json()
    facts = columns("", "", "", right=(1,))
    flops = cost.flops_per_token
    facts.add_row(say("terminal.flops"), whole(flops), short(flops))
    cache = cost.kv_cache_bytes_per_token
    facts.add_row(say("terminal.cache_per_token"), whole(cache), size(cache))
    training = cost.training_memory_bytes
    facts.add_row(say("terminal.training"), whole(training), size(training))
    console.print(Padding.indent(facts, 2))
    console.print()
    contexts = columns(
        *map(say, ("terminal.context", "terminal.attention_flops", "terminal.cache")),
        right=(0, 1, 2),
    )
    for context, attention in found["attention_flops_per_token"].items():
        contexts.add_row(
            whole(int(context)), short(attention), size(found["kv_cache_bytes"][context])
        )
    console.print(Padding.indent(contexts, 2))
    console.print()
    for note in cost.notes(lang):
        paragraph(console, note, first="· ", indent=2, style="dim")


def draw_here(
    console: Console, say: Say, machine: Machine, speed: float, fits: Mapping[str, Fit]
) -> None:
    """This machine against the model, for each format of numbers."""
    console.print(Text("\n" + say("terminal.this_machine", cores=machine.cores), style="bold"))
    for name, fit in fits.items():
        key = {True: "count.here_fits", False: "count.here_too_big", None: "count.here_unknown"}[
            fit.fits
        ]
        values = {"needed": size(fit.needed), "available": size(machine.available or 0)}
        style = {True: "green", False: "red", None: ""}[fit.fits]
        console.print(Text(f"  {name:9} ").append(say(key, **values), style=style))
        if fit.tokens_per_second is not None:
            rate = f"{fit.tokens_per_second:.3g}"
            estimate = say(
                "count.here_speed", rate=rate, bandwidth=size(speed), read=size(fit.read_per_token)
            )
            paragraph(console, estimate, indent=12, style="dim")
        if fit.fits_gpu is not None:
            gpu = max(machine.gpus, key=lambda gpu: gpu.memory)
            key = "count.here_gpu_fits" if fit.fits_gpu else "count.here_gpu_too_big"
            console.print(f"            {say(key, name=gpu.name, memory=size(gpu.memory))}")
