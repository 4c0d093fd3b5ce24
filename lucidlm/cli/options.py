"""Options that several commands share, and what they mean to the library."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

import typer

from lucidlm.cli.session import Session
from lucidlm.errors import LucidError, UnknownName

DTYPES = ("float32", "bfloat16", "float64")
# The models of the package that answer when none is named.
WRITER, TRANSLATOR, FILLER = "mini", "translate-zh-en", "cloze-zh"

SAMPLING = "cli.panel_sampling"
LENGTH = "cli.panel_length"

Json = Annotated[bool, typer.Option("--json", help="cli.option_json")]
Model = Annotated[str, typer.Option("--model", metavar="MODEL", help="cli.option_model")]
Dtype = Annotated[
    str | None, typer.Option("--dtype", metavar="|".join(DTYPES), help="cli.option_dtype")
]
ENGINES = ("torch", "native", "reference")
Engine = Annotated[
    str | None, typer.Option("--engine", metavar="|".join(ENGINES), help="cli.option_engine")
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens", metavar="N", help="cli.option_max_new_tokens", rich_help_panel=LENGTH
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", metavar="TEXT", help="cli.option_stop", rich_help_panel=LENGTH),
]
Beams = Annotated[
    int | None,
    typer.Option("--beams", metavar="N", help="cli.option_beams", rich_help_panel=SAMPLING),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", metavar="T", help="cli.option_temperature", rich_help_panel=SAMPLING
    ),
]
TopK = Annotated[
    int | None,
    typer.Option("--top-k", metavar="K", help="cli.option_top_k", rich_help_panel=SAMPLING),
]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", metavar="P", help="cli.option_top_p", rich_help_panel=SAMPLING),
]
MinP = Annotated[
    float | None,
    typer.Option("--min-p", metavar="P", help="cli.option_min_p", rich_help_panel=SAMPLING),
]
Repetition = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        metavar="X",
        help="cli.option_repetition_penalty",
        rich_help_panel=SAMPLING,
    ),
]
Frequency = Annotated[
    float | None,
    typer.Option(
        "--frequency-penalty",
        metavar="X",
        help="cli.option_frequency_penalty",
        rich_help_panel=SAMPLING,
    ),
]
Presence = Annotated[
    float | None,
    typer.Option(
        "--presence-penalty",
        metavar="X",
        help="cli.option_presence_penalty",
        rich_help_panel=SAMPLING,
    ),
]
LogitBias = Annotated[
    list[str] | None,
    typer.Option(
        "--logit-bias", metavar="ID=VALUE", help="cli.option_logit_bias", rich_help_panel=SAMPLING
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="cli.option_seed", rich_help_panel=SAMPLING),
]


def chosen(**options: Any) -> dict[str, Any]:
    """The options that were given, as `Model.settings` takes them; the others are left to the
    checkpoint.
    """
    given = {name: value for name, value in options.items() if value not in (None, [])}
    if "logit_bias" in given:
        given["logit_bias"] = dict(map(_bias, given["logit_bias"]))
    return given


def one_of(option: str, value: str, choices: Collection[str]) -> str:
    """`value`, if it is a choice."""
    if value not in choices:
        raise UnknownName(
            "cli.no_such_choice", value, choices, option=option, choices=", ".join(choices)
        )
    return value


def open_model(name: str, dtype: str | None, engine: str | None, session: Session) -> Any:
    """The model called `name`."""
    if dtype is not None:
        one_of("--dtype", dtype, DTYPES)
    if engine is not None:
        one_of("--engine", engine, ENGINES)
    from lucidlm.api import load

    with session.busy(session.say("cli.loading", name=name)):
        return load(name, dtype=dtype, engine=engine)  # type: ignore[arg-type]


def _bias(given: str) -> tuple[int, float]:
    id, _, value = given.partition("=")
    try:
        return int(id), float(value)
    except ValueError:
        raise LucidError("cli.bad_bias", value=given) from None
