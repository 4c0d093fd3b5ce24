"""What the lesson computes: a translation, word by word, and where each sub-layer looks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

import lucidlm
from lucidlm.checkpoint.load import read_config
from lucidlm.generate import Text
from lucidlm.lessons.encoder_decoder import model as hand
from lucidlm.lessons.kinds import Array, Cell, Figures, Matrix, Table, Value
from lucidlm.lessons.running import opened, watched
from lucidlm.lessons.telling import Lesson, Words, figure
from lucidlm.reference.equations import linear, softmax

SOURCE, TURNED = "我爱你", "你爱我"
ENCODER, DECODER = "encoder.layers.0", "decoder.layers.0"
FIRST, OTHERS = "transformer-base", ("gpt2", "llama-2-7b")
MOST = 8  # tokens of an answer
END = hand.WORDS.index("<EOS>")


def values(say: Words) -> dict[str, Value]:
    model = opened(hand.write)
    passes: Counter[str] = Counter()
    positions: Counter[str] = Counter()

    def count(path: str, name: str, value: Any) -> Any:
        if name == "residual_in":
            passes[path] += 1
            positions[path] += value.shape[1]
        return value

    text = model.generate(SOURCE, max_new_tokens=MOST, beams=1, tracer=count)
    source = model.tokenizer.encode(SOURCE)
    said = [hand.WORDS.index("<SOS>"), *(token.id for token in text.tokens)]
    seen = watched(model, said[:-1], source)
    return {
        "source": SOURCE,
        "read": _words(source),
        "said": " ".join(_words(said[1:])),
        "start": _words(said)[0],
        "end": hand.WORDS[END],
        "stop": text.stop_reason or "",
        "classes": seen["head.logits"].shape[-1],
        "words": len(hand.WORDS),
        "turned": TURNED,
        "turned_said": " ".join(_words(_ids(model.generate(TURNED, max_new_tokens=MOST)))),
        "encoder_passes": passes[ENCODER],
        "encoder_positions": positions[ENCODER],
        "decoder_passes": passes[DECODER],
        "decoder_positions": positions[DECODER],
        **_looks(say, seen, source, said[:-1]),
        **_sides(say, model, seen),
        **_steps(say, seen, source, said),
        **_families(say),
    }


def sides(model: lucidlm.Model, seen: dict[str, Array]) -> dict[str, tuple[float, float]]:
    """Query, key and value of cross-attention: how far the recorded one is from what its matrix
    makes of the decoder's vectors, and of the encoder's. Only rows that both have are compared.
    """
    at = f"{DECODER}.cross_attention"
    decoder, encoder = seen[f"{DECODER}.residual_mid"], seen[f"{ENCODER}.residual_out"]
    found = {}
    for name in ("query", "key", "value"):
        weight, bias = (model.engine.weight(f"{at}.{name}.{kind}") for kind in ("weight", "bias"))
        recorded = seen[f"{at}.{name}"][:, 0]
        makings = (linear(x, weight, bias) for x in (decoder, encoder))
        first, second = (_apart(recorded, made) for made in makings)
        found[name] = first, second
    return found


def _apart(recorded: Array, made: Array) -> float:
    rows = min(len(recorded), len(made))
    return float(np.abs(recorded[:rows] - made[:rows]).max())


def _looks(
    say: Words, seen: dict[str, Array], source: list[int], said: list[int]
) -> dict[str, Value]:
    """What each of the three kinds of attention looks at."""
    read, known = _words(source), _words(said)
    hidden = seen[f"{DECODER}.feedforward.activated"]
    names = tuple(say("unit", word=word.strip()) for _, word in hand.MEANINGS)
    return {
        "encoder_looks": Matrix(read, read, seen[f"{ENCODER}.attention.pattern"][0]),
        "self_looks": Matrix(known, known, seen[f"{DECODER}.attention.pattern"][0]),
        "cross_looks": Matrix(known, read, seen[f"{DECODER}.cross_attention.pattern"][0]),
        "hidden": Matrix(known, (*names, say("unit", word=hand.WORDS[END])), hidden, shaded=False),
        "sources": len(read),
        "targets": len(known),
    }


def _sides(say: Words, model: lucidlm.Model, seen: dict[str, Array]) -> dict[str, Value]:
    """Which side query, key and value come from, by recomputing them."""
    apart = sides(model, seen)
    rows: list[tuple[Cell, ...]] = []
    for name, differences in apart.items():
        recorded = seen[f"{DECODER}.cross_attention.{name}"]
        side = ("decoder", "encoder")[differences[0] > differences[1]]
        rows.append((say(name), len(recorded), *differences, say(side)))
    heads = (say("what"), say("rows"), say("from_decoder"), say("from_encoder"), say("so"))
    asks = figure(say, "asking", say("encoder"), str(rows[0][-1]))
    answers = figure(say, "answering", say("encoder"), str(rows[1][-1]))
    gives = figure(say, "giving", say("decoder"), str(rows[2][-1]))
    return {
        "sides": Table(heads, tuple(rows), ".4f"),
        "side_figures": Figures((asks, answers, gives)),
    }


def _steps(
    say: Words, seen: dict[str, Array], source: list[int], said: list[int]
) -> dict[str, Value]:
    """The loop, a row a step."""
    shares = softmax(seen["head.logits"])
    looks = seen[f"{DECODER}.cross_attention.pattern"][0].argmax(-1)
    words, read = _words(said), _words(source)
    rows = tuple(
        (
            " ".join(words[: step + 1]),
            read[looks[step]] if said[step + 1] != END else say("nowhere"),
            words[step + 1],
            float(shares[step, said[step + 1]]),
            float(shares[step, END]),
        )
        for step in range(len(said) - 1)
    )
    heads = (say("known"), say("looks_at"), say("says"), say("chance"), say("end_chance"))
    before = float(shares[:-1, END].max())
    return {"steps": Table(heads, rows, ".1%"), "end_before": before, "count": len(rows)}


def _families(say: Words) -> dict[str, Value]:
    """Which stacks published models have."""
    yes, no = say("yes"), say("no")
    rows: list[tuple[Cell, ...]] = []
    for name in (FIRST, *OTHERS):
        config = read_config(name)
        assert config.decoder is not None
        layers = [stack.layers if stack else 0 for stack in (config.encoder, config.decoder)]
        rows.append((name, *layers, yes if config.decoder.cross else no, config.vocab_size))
    heads = (
        say("model"),
        say("encoder_layers"),
        say("decoder_layers"),
        say("cross"),
        say("classes"),
    )
    encoder = read_config(FIRST).encoder
    assert encoder is not None
    return {
        "families": Table(heads, tuple(rows)),
        "paper_layers": encoder.layers,
        "our_layers": hand.config().stacks["encoder"].layers,
    }


def _ids(text: Text) -> list[int]:
    return [token.id for token in text.tokens]


def _words(ids: list[int]) -> tuple[str, ...]:
    return tuple(hand.WORDS[id].strip() for id in ids)


LESSON = Lesson(values=values)
