"""`chat`: a conversation with a model, on a terminal or line by line from a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lucidlm.cli import options as o
from lucidlm.cli.answers import completion_json
from lucidlm.cli.session import Session
from lucidlm.cli.streaming import stream, summarize

if TYPE_CHECKING:
    from lucidlm.api import Model

ALTERNATIVES = 5  # noted for each token in JSON
ROOM = (
    4  # at least a quarter of the context is kept for the answer, unless --max-new-tokens says less
)


def chat(
    ctx: typer.Context,
    model: o.Model = o.WRITER,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="cli.option_system")
    ] = None,
    max_new_tokens: o.MaxNewTokens = None,
    temperature: o.Temperature = None,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    min_p: o.MinP = None,
    repetition_penalty: o.Repetition = None,
    seed: o.Seed = None,
    dtype: o.Dtype = None,
    engine: o.Engine = None,
    as_json: o.Json = False,
) -> None:
    """Talk with a model."""
    session: Session = ctx.obj
    settings = o.chosen(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    loaded = o.open_model(model, dtype, engine, session)
    conversation = Conversation(session, loaded, settings, system)
    if sys.stdin.isatty() and not as_json:
        session.note(session.say("cli.chat_hello", name=loaded.name))
    if loaded.template is not None and loaded.template.is_plain:
        session.note(session.say("cli.chat_base", name=loaded.name))
    answer = conversation.answer_json if as_json else conversation.answer
    while (line := _read(session)) is not None:
        match line.strip():
            case "":
                continue
            case "/quit":
                break
            case "/reset":
                conversation.reset()
                session.note(session.say("cli.chat_reset"))
            case command if command.startswith("/"):
                session.note(session.say("cli.chat_commands"))
            case words:
                answer(words)


class Conversation:
    """What was said so far, and how the next answer comes."""

    def __init__(
        self, session: Session, model: Model, settings: dict[str, Any], system: str | None
    ) -> None:
        self.session, self.model, self.settings = session, model, settings
        self.opening = [{"role": "system", "content": system}] if system else []
        limit = model.engine.max_positions
        self.room = min(model.settings(**settings).max_new_tokens, limit // ROOM)
        model.chat_ids(
            [*self.opening, {"role": "user", "content": "?"}]
        )  # says now what cannot chat
        self.reset()

    def reset(self) -> None:
        """Forget all but the system's message."""
        self.messages: list[dict[str, str]] = []

    def answer(self, words: str) -> None:
        """Stream the answer to `words` and remember both."""
        self._ask(words)
        streamed = stream(self.model.stream([*self.opening, *self.messages], **self.settings))
        summarize(self.session, streamed)
        self._remember(streamed.text)

    def answer_json(self, words: str) -> None:
        """The whole answer as one JSON object on a line."""
        self._ask(words)
        completion = self.model.chat(
            [*self.opening, *self.messages], alternatives=ALTERNATIVES, **self.settings
        )
        self.session.answer(completion_json(self.model.name, words, completion))
        self._remember(completion.text)

    def _ask(self, words: str) -> None:
        """Add the user's message, and drop the oldest turns that the context cannot hold."""
        self.messages.append({"role": "user", "content": words})
        dropped, limit = 0, self.model.engine.max_positions - self.room
        while (
            len(self.messages) > 1
            and len(self.model.chat_ids([*self.opening, *self.messages])) > limit
        ):
            del self.messages[:2]
            dropped += 1
        if dropped:
            self.session.note(self.session.say("cli.chat_dropped", count=dropped))

    def _remember(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text.strip()})


def _read(session: Session) -> str | None:
    """The next line; None at the end of the input, and after Ctrl-C at the prompt."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line or None
    try:
        import readline  # noqa: F401  # arrow keys and history in `input`
    except ImportError:  # not on Windows
        pass
    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):
        session.err.print()
        return None
