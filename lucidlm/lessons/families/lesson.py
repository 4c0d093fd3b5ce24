"""What the lesson computes: well-known models side by side, from their configs."""

from __future__ import annotations

import numpy as np

from lucidlm.checkpoint.load import read_config
from lucidlm.config import Activation, Config, Stack
from lucidlm.count import count
from lucidlm.lessons.kinds import Figures, Inline, Matrix, Table, Value, times
from lucidlm.lessons.telling import Lesson, Words, figure
from lucidlm.reference.equations import activation, hidden, softmax

PRESETS = ("transformer-base", "bert-base", "gpt2", "gpt3-175b", "t5-base", "llama-3-8b")
CHAT, ORIGINAL = "gpt3-175b", "transformer-base"
SENTENCE = ("我", "很", "开心", "。")
NAMED: tuple[Activation, ...] = ("relu", "sigmoid", "tanh", "silu", "gelu")
POINTS = (-3.0, -1.0, 0.0, 1.0, 3.0)
ARTICLE: dict[str, Inline] = {"chat": 2}  # stacks: it encodes, then decodes


def values(say: Words) -> dict[str, Value]:
    configs = {name: read_config(name) for name in PRESETS}
    chat, original = configs[CHAT], configs[ORIGINAL]
    rows = (figure(say, "chat", ARTICLE["chat"], len(chat.stacks)),)
    shown: dict[str, Value] = {
        "models": len(configs),
        "structures": len({config.kind for config in configs.values()}),
        "original": ORIGINAL,
        "table": _table(say, configs),
        "chat_model": CHAT,
        "chat_kind": say(_key(chat)),
        "figures": Figures(rows),
        "stacks": Table(
            (say("model"), *map(say, ("sublayers", "stack", "layer_count"))),
            tuple(
                (name, 3 if stack.cross else 2, say(at), stack.layers)
                for name, config in ((ORIGINAL, original), (CHAT, chat))
                for at, stack in config.stacks.items()
            ),
        ),
    }
    return shown | sight() | inside(say, configs) | output(chat)


def sight() -> dict[str, Value]:
    """Who may look at whom, as even shares of what is seen."""
    places = np.arange(len(SENTENCE))
    even = {
        kind: softmax(np.where(hidden(kind, places, places), -np.inf, 0.0))
        for kind in ("full", "causal")
    }
    return {
        "encoder_sight": Matrix(SENTENCE, SENTENCE, even["full"]),
        "decoder_sight": Matrix(SENTENCE, SENTENCE, even["causal"]),
    }


def inside(say: Words, configs: dict[str, Config]) -> dict[str, Value]:
    """The functions between widening and narrowing, and who uses which."""
    shares = np.stack([activation(name)(np.array(POINTS)) for name in NAMED])
    columns = tuple(f"{point:.0f}" for point in POINTS)
    stacks = {name: _own(config) for name, config in configs.items()}
    used = tuple(
        (
            name,
            stack.feedforward.activation,
            say("yes") if stack.feedforward.gated else say("no"),
            times(configs[name].dim, stack.feedforward.hidden),
        )
        for name, stack in stacks.items()
    )
    return {
        "functions": Matrix(NAMED, columns, shares, shaded=False),
        "used": Table((say("model"), say("function"), say("gated"), say("widened")), used),
    }


def output(config: Config) -> dict[str, Value]:
    """The last product, by its sizes."""
    return {
        "last": times(1, config.dim),
        "words_table": times(config.vocab_size, config.dim),
        "logits": times(1, config.vocab_size),
        "choices": config.vocab_size,
    }


def _table(say: Words, configs: dict[str, Config]) -> Table:
    heads = (say("model"), say("structure"), say("layer_count"), say("parameters"))
    rows = [
        (
            name,
            say(_key(config)),
            " + ".join(str(stack.layers) for stack in config.stacks.values()),
            count(config).parameters,
        )
        for name, config in configs.items()
    ]
    return Table(heads, tuple(rows))


def _key(config: Config) -> str:
    return {"encoder": "only_encoder", "decoder": "only_decoder"}.get(config.kind, "both")


def _own(config: Config) -> Stack:
    stack = config.decoder or config.encoder
    assert stack is not None, "a Config has a stack"
    return stack


LESSON = Lesson(values=values, article=ARTICLE)
