"""What the lesson computes: GPT-3's parameters from its config, part by part and by formula."""

from __future__ import annotations

from dataclasses import asdict

from lucidlm.checkpoint.load import read_config
from lucidlm.count import Count, count
from lucidlm.lessons.kinds import Bars, Figures, Inline, Table, Value, times
from lucidlm.lessons.telling import Lesson, Words, figure

MODEL = "gpt3-175b"
OTHERS = ("gpt2", MODEL, "llama-3-8b", "smollm2-135m")
MATRIX, PROJECTIONS, SHARE, WHOLE = 151_000_000, 57_980_000_000, 0.33, 175_000_000_000
HEADS = 96
ARTICLE: dict[str, Inline] = {
    "matrix": MATRIX,
    "projections": PROJECTIONS,
    "share": SHARE,
    "whole": WHOLE,
    "heads": HEADS,
}
HALF = 2  # bytes of a number in fp16


def values(say: Words) -> dict[str, Value]:
    config = read_config(MODEL)
    assert config.decoder is not None
    stack, d = config.decoder, config.dim
    heads, size, layers = stack.attention.heads, stack.attention.head_dim, stack.layers
    cost = count(config)
    matrix = d * d
    projections = 4 * matrix * layers
    share = projections / cost.parameters
    by_head = d * size
    rows = (
        figure(say, "matrix", MATRIX, matrix, ".4g"),
        figure(say, "projections", PROJECTIONS, projections, ".4g"),
        figure(say, "share", SHARE, share, ".3g"),
        figure(say, "whole", WHOLE, cost.parameters, ".4g"),
    )
    return {
        "model": MODEL,
        "d": d,
        "size": times(d, d),
        "matrix": matrix,
        "layers": layers,
        "projections": projections,
        "counted": cost.parts.attention_projections,
        "share": share,
        "rest": 1 - share,
        "figures": Figures(rows),
        "heads": heads,
        "head_dim": size,
        "head_size": times(d, size),
        "by_head": by_head,
        "all_heads": 4 * by_head * heads * layers,
        "head_figure": Figures(
            (figure(say, "heads", say("of_heads", n=HEADS), say("of_layers", n=layers)),)
        ),
        **whole(say, cost),
        "feedforward_share": cost.parts.feedforward / cost.parameters,
        "hidden": stack.feedforward.hidden,
        "others": _others(say),
        "gigabytes": cost.parameters * HALF / 1e9,
    }


def whole(say: Words, cost: Count) -> dict[str, Value]:
    """The sum of the parts, and the same by the formula that one can keep in mind."""
    config = cost.config
    assert config.decoder is not None
    d, layers, words, positions = (
        config.dim,
        config.decoder.layers,
        config.vocab_size,
        config.max_positions,
    )
    names = cost.parts.named(say.lang)
    wider = config.decoder.feedforward.hidden // d
    squares = 4 + 2 * wider  # query, key, value, output; two of the feed-forward
    singles = (4 + wider + 1) + 2 * 2  # a bias for each matrix; two norms, a weight and a bias each
    per_layer = squares * d * d + singles * d
    formula = (
        (say("layer"), f"{squares} d² + {singles} d", per_layer),
        (say("all_layers"), f"× {layers}", per_layer * layers),
        (say("tokens"), f"{words} d", words * d),
        (say("positions"), f"{positions} d", positions * d),
        (say("final_norm"), "2 d", 2 * d),
    )
    total = per_layer * layers + (words + positions + 2) * d
    return {
        "parts": Bars.of(names, (n / cost.parameters for n in names.values())),
        "parts_table": Table((say("part"), say("parameters")), tuple(names.items())),
        "formula": Table(("", say("formula"), say("parameters")), formula),
        "squares": squares,
        "singles": singles,
        "rows": len(formula),
        "wider": wider,
        "total": total,
        "parameters": cost.parameters,
        "difference": total - sum(asdict(cost.parts).values()),
    }


def _others(say: Words) -> Table:
    heads = (say("model"), "d", say("layer_count"), say("parameters"), say("attention"))
    rows = []
    for name in OTHERS:
        config = read_config(name)
        cost = count(config)
        assert config.decoder is not None
        share = cost.parts.attention_projections / cost.parameters
        rows.append((name, config.dim, config.decoder.layers, cost.parameters, share))
    return Table(heads, tuple(rows), ".1%")


LESSON = Lesson(values=values, article=ARTICLE)
