"""`trace`, `sites`, `explain` and `verify`: what happened in a run, and where each number came
from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lucidlm.cli import options as o
from lucidlm.cli.session import Session
from lucidlm.cli.streaming import write
from lucidlm.errors import LucidError, TraceError

if TYPE_CHECKING:
    from lucidlm.api import Model
    from lucidlm.generate import Sampled
    from lucidlm.terminal.traced import Sight, Traced
    from lucidlm.trace.edits import Edit
    from lucidlm.trace.explain import Explanation
    from lucidlm.trace.run import Token
    from lucidlm.trace.trace import Trace
    from lucidlm.trace.why import Why

ASKED_WHY = ("head.logits", "sampling.probabilities")  # sites whose cells are about one word
EXPLAINED = 8  # chosen words whose arithmetic is in a report
VERIFIED = 4  # tokens written unless told otherwise, so that steps with a cache are looked at too

MaxNewTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens", metavar="N", help="cli.option_few_tokens", rich_help_panel=o.LENGTH
    ),
]
VerifiedTokens = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens", metavar="N", help="cli.option_verified_tokens", rich_help_panel=o.LENGTH
    ),
]
Edits = Annotated[list[str] | None, typer.Option("--edit", metavar="EDIT", help="cli.option_edit")]
Text = Annotated[str, typer.Argument(metavar="PROMPT", help="cli.argument_traced")]


def trace(
    ctx: typer.Context,
    prompt: Text,
    model: o.Model = o.WRITER,
    max_new_tokens: MaxNewTokens = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="PATTERN", help="cli.option_keep")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="SIZE", help="cli.option_budget")
    ] = None,
    spill: Annotated[bool, typer.Option("--spill", help="cli.option_spill")] = False,
    edit: Edits = None,
    save: Annotated[
        str | None, typer.Option("--save", metavar="FILE", help="cli.option_save")
    ] = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="cli.option_html")
    ] = None,
    explain: Annotated[
        list[str] | None, typer.Option("--explain", metavar="ADDRESS", help="cli.option_explain")
    ] = None,
    temperature: o.Temperature = None,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    seed: o.Seed = None,
    dtype: o.Dtype = None,
    engine: o.Engine = None,
    as_json: o.Json = False,
) -> None:
    """Run a prompt and show what happened."""
    session: Session = ctx.obj
    if explain and html is None:
        raise LucidError("cli.explain_without_html")
    settings = o.chosen(
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    edits = parse_edits(edit)
    loaded = o.open_model(model, dtype, engine, session)
    found = loaded.trace(
        prompt,
        keep=keep or (),
        edits=edits,
        budget=budget,
        spill=spill,
        **settings,
    )
    if save is not None:
        found.save(Path(save).expanduser())
    if html is not None:
        path = Path(html).expanduser()
        found.write_html(path, explain=explain or choices(found), lang=session.lang)
    files = [name for name in (save, html) if name is not None]
    seen = look_at(found)
    if as_json:
        session.answer(trace_json(seen, prompt) | {"files": files})
        return
    from lucidlm.terminal.traced import draw_trace

    draw_trace(session.out, session.say, seen, session.lang)
    for name in files:
        session.note(session.say("glass.written", path=name))


def sites(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="cli.argument_count")],
    pattern: Annotated[
        str | None, typer.Argument(metavar="PATTERN", help="cli.argument_pattern")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """List what can be seen in a model."""
    session: Session = ctx.obj
    from lucidlm.checkpoint.load import read_config
    from lucidlm.trace.patterns import matching

    config = read_config(model)
    found = matching(config, pattern)
    if as_json:
        from lucidlm.trace.words import label, sentence

        session.answer(
            [
                {
                    "address": site.address,
                    "axes": list(site.axes),
                    "sizes": list(site.sizes),
                    "kind": site.operation.kind,
                    "equation": site.equation,
                    "label": label(site.key, session.lang),
                    "words": sentence(site.key, session.lang),
                    "derived": site.derived,
                }
                for site in found
            ]
        )
        return
    from lucidlm.terminal.glass import draw_sites

    draw_sites(session.out, session.say, model, found, session.lang)


def explain(
    ctx: typer.Context,
    prompt: Text,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="cli.argument_address")],
    model: o.Model = o.WRITER,
    max_new_tokens: MaxNewTokens = None,
    depth: Annotated[int, typer.Option("--depth", metavar="D", help="cli.option_depth")] = 0,
    numpy: Annotated[
        str | None, typer.Option("--numpy", metavar="FILE", help="cli.option_numpy")
    ] = None,
    edit: Edits = None,
    temperature: o.Temperature = None,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    seed: o.Seed = None,
    dtype: o.Dtype = None,
    engine: o.Engine = None,
    as_json: o.Json = False,
) -> None:
    """Say where one number came from."""
    session: Session = ctx.obj
    if depth < 0:
        raise LucidError("cli.bad_depth", value=depth)
    edits = parse_edits(edit)
    settings = o.chosen(
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    loaded = o.open_model(model, dtype, engine, session)
    found = loaded.trace(prompt, edits=edits, **settings)
    explanation = found.explain(address, depth)
    if numpy is not None:
        path = Path(numpy).expanduser()
        explanation.save_operands(path)
        program = explanation.program(path)
        if as_json:
            session.answer({"operands": numpy, "program": program})
        else:
            write(program)
        return
    reasons = ask_why(found, explanation)
    if as_json:
        answer = {"model": loaded.name, "prompt": prompt} | explanation.to_json(session.lang)
        add_stored(answer, stored_as(loaded))
        session.answer(answer | {"why": None if reasons is None else reasons.to_json(session.lang)})
        return
    from lucidlm.terminal.glass import draw_explanation

    draw_explanation(session.out, session.say, explanation, session.lang, stored_as(loaded))
    if reasons is not None:
        from lucidlm.terminal.glass import draw_why

        draw_why(session.out, reasons, session.lang)


def verify(
    ctx: typer.Context,
    prompt: Text,
    model: o.Model = o.WRITER,
    max_new_tokens: VerifiedTokens = None,
    edit: Edits = None,
    dtype: o.Dtype = None,
    engine: o.Engine = None,
    as_json: o.Json = False,
) -> None:
    """Compute every number of a run again, in float64."""
    session: Session = ctx.obj
    edits = parse_edits(edit)
    loaded = o.open_model(model, dtype, engine, session)
    settings = o.chosen(max_new_tokens=max_new_tokens) | {"edits": edits}
    if loaded.kind != "encoder":
        settings.setdefault("max_new_tokens", VERIFIED)
    with session.busy(session.say("glass.verifying")):
        found = whole_trace(loaded, prompt, settings).verify()
    if as_json:
        session.answer(found.to_json())
    else:
        from lucidlm.terminal.glass import draw_verification

        draw_verification(session.out, session.say, found)
    if found.failed:
        raise typer.Exit(1)


def look_at(trace: Trace) -> Traced:
    """What is shown of a run: of a model without layers or without a head, what there is."""
    from lucidlm.terminal.traced import Sight, Traced
    from lucidlm.trace.heads import heads, tokens
    from lucidlm.trace.lens import lens

    if trace.config is None:
        return Traced(trace, {at: _sight(trace.sampled(at)) for at in trace.chosen}, None, ())
    tagged = [head for head in heads(trace) if head.tags]
    if trace.config.head is None:
        return Traced(trace, {}, None, tagged)
    sights = {
        report.predicts: Sight(2.0**-report.surprise, report.surprise, report.entropy)
        for report in tokens(trace)
        if report.surprise is not None
    }
    last = trace.chosen[-1] - 1 if trace.chosen else trace.length - 1
    return Traced(trace, sights, lens(trace, positions=(last,), top=1), tagged)


def _sight(sampled: Sampled) -> Sight:
    from lucidlm.terminal.traced import Sight
    from lucidlm.trace.predictions import entropy, log_softmax

    share = sampled.probability
    return Sight(share, -math.log2(share), float(entropy(log_softmax(sampled.logits))))


def choices(trace: Trace) -> list[str]:
    """The numbers that a report explains: the logit and the probability of the first words that the
    model chose.
    """
    from lucidlm.trace.operations import cell

    sites = ("sampling.logits", "sampling.probabilities")
    return [
        cell(site, ("position", position), ("word", trace.ids[position]))
        for position in trace.chosen[:EXPLAINED]
        for site in sites
    ]


def trace_json(seen: Traced, prompt: str) -> dict[str, Any]:
    """What is drawn of a run, and all that is left out of the drawing."""
    trace, lens = seen.trace, seen.lens
    return {
        "model": trace.name,
        "prompt": prompt,
        "text": trace.text,
        "stop_reason": trace.stop_reason,
        "tokens": [_token_json(token, seen.sights.get(token.position)) for token in trace.tokens],
        "sources": [_token_json(token, None) for token in trace.sources],
        "lens": None if lens is None else lens.to_json(),
        "heads": [head.to_json() for head in seen.heads],
        "edits": [edit.to_json() for edit in trace.edits],
    }


def _token_json(token: Token, sight: Sight | None) -> dict[str, Any]:
    bits = None if sight is None or math.isinf(sight.bits) else sight.bits
    return {
        "position": token.position,
        "id": token.id,
        "text": token.label,
        "bytes": list(token.bytes),
        "phase": token.phase,
        "step": token.step,
        "chosen": token.chosen,
        "probability": None if sight is None else sight.probability,
        "bits": bits,
        "entropy": None if sight is None else sight.entropy,
    }


def whole_trace(model: Model, prompt: str, settings: dict[str, Any]) -> Trace:
    """A run with everything captured live or, where that is more than memory holds, what follows
    from the residual stream.
    """
    try:
        return model.trace(prompt, keep=("*",), **settings)
    except TraceError as error:
        if error.key != "trace.over_budget":
            raise
        return model.trace(prompt, **settings)


def ask_why(trace: Trace, explanation: Explanation) -> Why | None:
    """What made the probability that a cell is about, if it is about one."""
    cell = explanation.cell
    if cell.name not in ASKED_WHY:
        return None
    position, word = cell.index
    predicts_next = cell.name == "head.logits" and trace.tokens[0].phase != "encode"
    return trace.why(word, position + predicts_next)


def stored_as(model: Model) -> dict[str, str]:
    """What each parameter is called in the model's own file."""
    if model.checkpoint is None:
        return {}
    from lucidlm.checkpoint.convert import expand

    rules = expand(model.checkpoint.rules, model.checkpoint.config)
    return {part: rule.theirs for rule in rules for part in rule.parts}


def add_stored(explanation: dict[str, Any], names: dict[str, str]) -> None:
    """Put `stored_as` beside every parameter of an explanation as JSON."""
    if explanation["kind"] == "parameter":
        explanation["stored_as"] = names.get(explanation["address"].partition("[")[0])
    for inner in explanation["inner"]:
        add_stored(inner, names)


def parse_edits(texts: Sequence[str] | None) -> list[Edit]:
    """Every `--edit`, in the order given."""
    return [parse_edit(text) for text in texts or ()]


def parse_edit(text: str) -> Edit:
    """`zero:ADDRESS`, `scale:ADDRESS:FACTOR` or `add:ADDRESS:VALUE`."""
    from lucidlm.trace.edits import Add, Scale, Zero

    kind, _, rest = text.partition(":")
    if kind == "zero" and rest:
        return Zero(rest)
    address, _, value = rest.rpartition(":")  # a slice in the address has a colon too
    kinds = {"scale": Scale, "add": Add}
    try:
        return kinds[kind](address, float(value))
    except (KeyError, ValueError):
        raise LucidError("cli.bad_edit", value=text) from None
