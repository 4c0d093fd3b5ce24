"""What the lesson computes: a decoder set by hand that turns 我爱你 into English word by word."""

from __future__ import annotations

import numpy as np

from lucidlm.api import Model
from lucidlm.checkpoint.load import read_config
from lucidlm.classical.words import Words as Vocabulary
from lucidlm.config import Config
from lucidlm.count import count
from lucidlm.lessons.kinds import (
    Array,
    Figures,
    Flow,
    Inline,
    Matrix,
    Table,
    Value,
    inline,
    times,
)
from lucidlm.lessons.looking_back import model as looking_back
from lucidlm.lessons.running import watched
from lucidlm.lessons.telling import Lesson, Words, figure
from lucidlm.parameters import parameters
from lucidlm.text.builtin import builtin

END = "</s>"
NEXT = {"我": "i", "爱": "love", "你": "you", "i": ".", "love": END}
VOCABULARY = Vocabulary(("我", "爱", "你", "i", "love", "you", ".", END), end=7)
SOURCE, TARGET = "我 爱 你", "I love you."
BACK, POSITIONS = 2, 8
SURE = 6.0  # logit of the word that comes next; all others have 0
LARGE = "gpt3-175b"
PRESETS = ("gpt2", "gpt2-xl", LARGE, "llama-3-8b", "llama-3.1-405b")
TALK = ("翻译：", "我爱你", "你爱我", "我也爱你")
SEED = 1
ROWS, COLUMNS = 4, 12288
ARTICLE: dict[str, Inline] = {"rows": ROWS, "columns": COLUMNS, "tokens": 3}


def values(say: Words) -> dict[str, Value]:
    model = looking_back(VOCABULARY, table(), BACK, POSITIONS)
    return written(say, model) | matrices(say, model) | inside(say, model) | talk(say)


def table() -> Array:
    """Logits of the next word by the word that attention found."""
    logits = np.zeros((VOCABULARY.vocab_size,) * 2)
    for found, following in NEXT.items():
        rows = (VOCABULARY.words.index(found), VOCABULARY.words.index(following))
        logits[rows] = SURE
    return logits


def written(say: Words, model: Model) -> dict[str, Value]:
    """The loop: read everything, write one word, read everything again."""
    ids, rows = VOCABULARY.encode(SOURCE), []
    for step in model.stream(SOURCE, max_new_tokens=POSITIONS - len(ids)):
        text = " ".join(VOCABULARY.words[id] for id in ids)
        share = step.sampled.probability
        shape = times(*watched(model, ids)["embedding.sum"].shape)
        rows.append((text, shape, VOCABULARY.words[step.id], share))
        ids.append(step.id)
    pieces = builtin("bpe").encode(TARGET, special=False)
    heads = (say("joined"), say("matrix"), say("next"), say("share"))
    return {
        "source": SOURCE,
        "steps": Table(heads, tuple(rows), ".3f"),
        "count": len(rows),
        "tokens_figure": Figures((figure(say, "tokens", ARTICLE["tokens"], len(pieces)),)),
    }


def matrices(say: Words, model: Model) -> dict[str, Value]:
    """What flows and what stays, here and in the large model."""
    assert model.config is not None
    ids = VOCABULARY.encode(SOURCE)
    longer = [*ids, VOCABULARY.words.index("i")]
    short, long = watched(model, ids), watched(model, longer)
    inner = (f"layers.0.attention.{name}" for name in ("query", "pattern", "output"))
    moving = ("embedding.sum", *inner, "layers.0.residual_out")
    flowing = tuple((name, _shape(short[name]), _shape(long[name])) for name in moving)
    fixed = tuple((name, times(*shape)) for name, shape in parameters(model.config).items())
    large = read_config(LARGE)
    assert large.decoder is not None
    return {
        "flowing": Table((say("site"), say("before"), say("after")), flowing),
        "fixed": Table((say("parameter"), say("shape")), fixed),
        "parameters": count(model.config).parameters,
        "large": LARGE,
        "large_parameters": count(large).parameters,
        "large_layers": large.decoder.layers,
        "numbers": len(longer) * large.dim,
        "here_flow": flow(say, model.config, len(longer)),
        "large_flow": flow(say, large, len(longer)),
        "large_figures": Figures(
            (
                figure(say, "rows", ROWS, len(longer)),
                figure(say, "columns", COLUMNS, large.dim),
            )
        ),
    }


def flow(say: Words, config: Config, n: int) -> Flow:
    """The article's flow chart, with real sizes on its arrows."""
    stack = config.decoder
    assert stack is not None
    heads, size = stack.attention.heads, stack.attention.head_dim
    matrix, square = f"N × M = {times(n, config.dim)}", times(n, n)
    scores = square if heads == 1 else f"{inline(heads)} × ({square})"
    each = times(n, size) if heads == 1 else f"{inline(heads)} × ({times(n, size)})"
    return Flow(
        (
            (say("flow_text"), say("flow_ids", n=n)),
            (say("flow_embed"), matrix),
            (say("flow_qkv"), f"Q, K, V: {each}"),
            (say("flow_scores"), scores),
            (say("flow_weights"), scores),
            (say("flow_mix"), f"Z: {each}"),
            (say("flow_add"), matrix),
            (say("flow_feedforward", hidden=stack.feedforward.hidden), matrix),
            (say("flow_layers", layers=stack.layers), matrix),
            (say("flow_last"), times(1, config.dim)),
            (say("flow_head"), f"L = {inline(config.vocab_size)}"),
            (say("flow_softmax"), ""),
        )
    )


def inside(say: Words, model: Model) -> dict[str, Value]:
    """One attention step by step, the article's shortcut beside it, and dimensions turned round."""
    ids = [*VOCABULARY.encode(SOURCE), VOCABULARY.words.index("i")]
    labels = tuple(VOCABULARY.words[id] for id in ids)
    seen = watched(model, ids)
    at = {name: seen[f"layers.0.attention.{name}"] for name in ("products", "scores", "pattern")}
    value, mixed = seen["layers.0.attention.value"][:, 0], seen["layers.0.attention.mixed"][:, 0]
    own = float(at["scores"][0, -1, -1]) * value[-1]
    columns = VOCABULARY.words
    lines = (say("of_article"), say("of_model"))
    last = (at[name][0, -1].tolist() for name in ("products", "scores", "pattern"))
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((len(ids), value.shape[1]))
    turn = np.linalg.qr(rng.standard_normal((value.shape[1],) * 2))[0]
    sizes = [(name, read_config(name)) for name in PRESETS]
    heads = (say("word"), say("product"), say("score"), say("weight"))
    return {
        "last": labels[-1],
        "size": value.shape[1],
        "second": labels[1],
        "row": Table(heads, tuple(zip(labels, *last, strict=True)), ".4g"),
        "mask": Matrix(labels, labels, at["scores"][0], ".0f"),
        "masked_weights": Matrix(labels, labels, at["pattern"][0]),
        "mixed": Matrix(lines, columns, np.stack([own, mixed[-1]]), ".1f"),
        "turned_vector": Matrix(
            (say("plain"), say("turned")), tuple(_dims(4)), np.stack([x[0], (x @ turn)[0]])[:, :4]
        ),
        "turned": float(np.abs(x @ x.T - (x @ turn) @ (x @ turn).T).max()),
        "sizes": Table(
            (say("model"), "M", say("layers"), say("parameters")),
            tuple(
                (name, c.dim, c.decoder.layers, count(c).parameters)
                for name, c in sizes
                if c.decoder
            ),
        ),
    }


def talk(say: Words) -> dict[str, Value]:
    """A conversation is one text, read from its beginning at every turn."""
    tokenizer, text, rows = builtin("wordpiece"), "", []
    for line in TALK:
        text = f"{text} {line}".strip()
        rows.append((text, len(tokenizer.encode(text, special=False))))
    return {"instruction": TALK[0], "talk": Table((say("reads"), "N"), tuple(rows))}


def _shape(values: Array) -> str:
    """Without the axis of a single head."""
    return times(*(size for size in values.shape if size != 1))


def _dims(count: int) -> list[str]:
    return [str(at) for at in range(count)]


LESSON = Lesson(values=values, article=ARTICLE)
