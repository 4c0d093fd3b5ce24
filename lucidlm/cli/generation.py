"""`run`, `translate` and `fill`: a model continues, translates or fills in."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lucidlm.cli import options as o
from lucidlm.cli.answers import completion_json, step_json
from lucidlm.cli.session import Session
from lucidlm.cli.streaming import stream, summarize, write
from lucidlm.errors import LucidError

if TYPE_CHECKING:
    from lucidlm.api import Model
    from lucidlm.terminal.stages import Word

ALTERNATIVES = 5  # noted for each token in JSON
WORDS_IN_STEPS = 3  # that `--steps` shows unless told otherwise

Layers = Annotated[
    str | None, typer.Option("--layers", metavar="all|0,5,9", help="cli.option_layers")
]


def run(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="cli.argument_prompt")],
    model: o.Model = o.WRITER,
    steps: Annotated[bool, typer.Option("--steps", help="cli.option_steps")] = False,
    layers: Layers = None,
    max_new_tokens: o.MaxNewTokens = None,
    stop: o.Stop = None,
    temperature: o.Temperature = None,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    min_p: o.MinP = None,
    repetition_penalty: o.Repetition = None,
    frequency_penalty: o.Frequency = None,
    presence_penalty: o.Presence = None,
    logit_bias: o.LogitBias = None,
    seed: o.Seed = None,
    beams: o.Beams = None,
    dtype: o.Dtype = None,
    engine: o.Engine = None,
    as_json: o.Json = False,
) -> None:
    """Continue a prompt, word by word."""
    session: Session = ctx.obj
    settings = o.chosen(
        max_new_tokens=WORDS_IN_STEPS if steps and max_new_tokens is None else max_new_tokens,
        stop=stop,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        logit_bias=logit_bias,
        seed=seed,
        beams=beams,
    )
    if steps and (beams or 1) > 1:
        raise LucidError("cli.steps_beams")
    loaded = o.open_model(model, dtype, engine, session)
    if steps:
        show_steps(session, loaded, prompt, settings, layers, as_json)
    elif as_json:
        completion = loaded.generate(prompt, alternatives=ALTERNATIVES, **settings)
        session.answer(completion_json(loaded.name, prompt, completion))
    elif loaded.settings(**settings).beams > 1:
        show_search(session, loaded, prompt, settings)
    else:
        show_stream(session, loaded, prompt, settings)


def translate(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="cli.argument_source")],
    model: o.Model = o.TRANSLATOR,
    max_new_tokens: o.MaxNewTokens = None,
    beams: o.Beams = None,
    dtype: o.Dtype = None,
    engine: o.Engine = None,
    as_json: o.Json = False,
) -> None:
    """Translate with an encoder-decoder model, by beam search where its checkpoint asks for it."""
    session: Session = ctx.obj
    settings = o.chosen(max_new_tokens=max_new_tokens, beams=beams)
    loaded = o.open_model(model, dtype, engine, session)
    with session.busy(session.say("cli.searching")):
        completion = loaded.translate(text, alternatives=ALTERNATIVES if as_json else 0, **settings)
    if as_json:
        session.answer(completion_json(loaded.name, text, completion))
    else:
        write(completion.text + "\n")


def fill(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="cli.argument_masked")],
    model: o.Model = o.FILLER,
    top: Annotated[int, typer.Option("--top", metavar="N", help="cli.option_top")] = 5,
    dtype: o.Dtype = None,
    engine: o.Engine = None,
    as_json: o.Json = False,
) -> None:
    """The likeliest words for each [MASK]."""
    session: Session = ctx.obj
    loaded = o.open_model(model, dtype, engine, session)
    blanks = loaded.fill(text, top=top)
    if as_json:
        found = [
            {
                "position": b.position,
                "words": [{"text": word, "probability": p} for word, p in b.words],
            }
            for b in blanks
        ]
        session.answer({"model": loaded.name, "text": text, "blanks": found})
        return
    from lucidlm.terminal.lists import draw_blanks

    draw_blanks(session.out, session.say, text, blanks)


def show_stream(session: Session, model: Model, prompt: str, settings: dict[str, Any]) -> None:
    """The text as it comes; on a terminal behind the prompt that it continues."""
    steps = model.stream(prompt, **settings)
    if sys.stdout.isatty() and not model.is_translator:
        session.out.print(prompt, style="dim", end="", soft_wrap=True)
    streamed = stream(steps)
    if streamed.reason == "cancelled":
        raise KeyboardInterrupt
    summarize(session, streamed)


def show_search(session: Session, model: Model, prompt: str, settings: dict[str, Any]) -> None:
    """Beam search has nothing to say before it is done."""
    with session.busy(session.say("cli.searching")):
        completion = model.generate(prompt, **settings)
    write(completion.text + "\n")


def show_steps(
    session: Session,
    model: Model,
    prompt: str,
    settings: dict[str, Any],
    layers: str | None,
    as_json: bool,
) -> None:
    """Each new word with its six stages."""
    chosen = _layers(layers, model)
    if not as_json:
        from lucidlm.terminal.stages import Drawing

        drawing = Drawing(session.out, session.say, chosen)
        for word in _words(model, prompt, settings, session):
            drawing.word(word)
        return
    begun = time.perf_counter()
    words = list(_words(model, prompt, settings, session))
    seconds = time.perf_counter() - begun
    session.answer(step_json(model, prompt, words, seconds, ALTERNATIVES))


def _words(model: Model, prompt: str, settings: dict[str, Any], session: Session) -> Iterator[Word]:
    """The steps of a run with what the model did for each."""
    from lucidlm.terminal.stages import TOP, Word
    from lucidlm.terminal.steps import Collector
    from lucidlm.text.spelling import labels, readable

    bytes_of = model.tokenizer.bytes_of
    collector = Collector()
    steps = model.stream(prompt, tracer=collector, **settings)
    read = [bytes_of(id) for id in model.tokenizer.encode(prompt)]
    source, pieces = (labels(read), []) if model.is_translator else ([], read)
    start = [session.say("terminal.start")] if model.is_translator else []
    for step in steps:
        pieces.append(step.bytes)
        options = [readable(bytes_of(id)) for id, _ in step.sampled.alternatives(TOP)]
        yield Word(step, collector.stages(), [*start, *labels(pieces)], source, options)


def _layers(given: str | None, model: Model) -> Sequence[int] | None:
    """The layers named by `--layers`; None leaves the choice to the drawing."""
    if given is None or model.config is None:
        return None
    stack = model.config.decoder or model.config.encoder
    assert stack is not None
    if given == "all":
        return range(stack.layers)
    try:
        layers = [int(part) for part in given.split(",")]
    except ValueError:
        layers = [-1]
    if not all(0 <= layer < stack.layers for layer in layers):
        raise LucidError("cli.bad_layers", value=given, last=stack.layers - 1)
    return layers
