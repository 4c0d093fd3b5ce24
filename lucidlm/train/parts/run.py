"""One run: train a variant, ask it what was held out, and let it write."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lucidlm.classical.ngram import NGram
from lucidlm.engine import ForwardContext
from lucidlm.model.transformer import Transformer
from lucidlm.train.batch import NO_LOSS, Batch
from lucidlm.train.parts.material import Pairs, Text, read, written
from lucidlm.train.parts.record import Record
from lucidlm.train.parts.settings import TRANSLATORS, Settings
from lucidlm.train.parts.variants import build, learnt
from lucidlm.train.step import Stepper

LONGEST = 20  # tokens that are written at most
TOP = 5
POINTS = 24  # of the training loss

Watch = Callable[[int, int, float], None]  # steps made, of how many, and the loss
Next = Callable[[list[int]], NDArray[np.floating]]  # ids -> the next token's probabilities


@dataclass
class Course:
    """What training was like."""

    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    held_out: list[tuple[float, float]] = field(default_factory=list)
    gradients: list[dict[str, float]] = field(default_factory=list)  # of the first and last step

    @property
    def learnt(self) -> list[tuple[float, float]]:
        """The training loss, each point the mean of the steps since the one before."""
        cuts = np.linspace(0, len(self.losses), min(POINTS, len(self.losses)) + 1).round().tolist()
        means = [np.mean(self.losses[int(a) : int(b)]) for a, b in pairwise(cuts)]
        return [(step, float(mean)) for step, mean in zip(cuts[1:], means, strict=True)]


def run(
    name: str, settings: Settings, text: str, pairs: str, seed: int, watch: Watch | None = None
) -> Record:
    """Train the variant called `name` on `text`, or to translate `pairs`, and record what came of
    it. On one thread: two are no faster at matrices this small, and sums come out the same.
    """
    if name == "n-gram":
        return _counted(Text.of(text, settings), seed)
    with _one_thread():
        if name in TRANSLATORS:
            both = Pairs.of(pairs, settings, joined=name == "decoder-only")
            source = both.sentence(settings.sentence)
            return _trained(name, both, both.opening(source), source, seed, watch)
        lines = Text.of(text, settings)
        return _trained(name, lines, lines.line(settings.opening), None, seed, watch)


def _trained(
    name: str,
    material: Text | Pairs,
    opening: list[int],
    source: list[int] | None,
    seed: int,
    watch: Watch | None,
) -> Record:
    words, asked = material.words, material.asked()
    model = build(name, material.settings, words.vocab_size, seed)
    course = _course(model, material, asked, seed, watch)
    following = partial(_following, model, source if model.encoder is not None else None)
    answer, top, shares = _answered(following, material, opening)
    fed = course.held_out[-1][1]
    assert model.config.decoder is not None
    return Record(
        name=name,
        seed=seed,
        parameters=learnt(model),
        tokens=course.tokens,
        seconds=course.seconds,
        learnt=tuple(course.learnt),
        held_out=tuple(course.held_out),
        writing=writing(model, asked) if model.config.decoder.mask == "full" else fed,
        first=course.gradients[0],
        last=course.gradients[-1],
        answer=answer,
        top=top,
        shares=shares,
        right=right(model, asked) if name in TRANSLATORS else None,
    )


def _course(
    model: Transformer, material: Text | Pairs, asked: Batch, seed: int, watch: Watch | None
) -> Course:
    """Train `model` in place."""
    settings = material.settings
    recipe = settings.recipe(seed, translates=isinstance(material, Pairs))
    steps, course = recipe.steps, Course()
    stepper = Stepper(model, recipe, device=torch.device("cpu"), total_steps=steps)
    for step in range(steps):
        batch = material.batch(seed, step)
        began = time.process_time()
        if step in (0, steps - 1):
            with gradient_norms(model) as norms:
                course.losses.append(stepper([batch], step).loss)
            course.gradients.append(norms)
        else:
            course.losses.append(stepper([batch], step).loss)
        course.seconds += time.process_time() - began
        course.tokens += read(batch)
        made = step + 1
        if made * settings.evaluations % steps < settings.evaluations:
            course.held_out.append((float(made), stepper.evaluate([asked])))
        if watch is not None:
            watch(made, steps, course.losses[-1])
    return course


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def gradient_norms(model: Transformer) -> Iterator[dict[str, float]]:
    """The norm of the gradient that the next backward pass gives each layer, by its name; "table"
    is the one of the token table, which reads and writes.
    """
    squares: defaultdict[str, float] = defaultdict(float)

    def note(layer: str, weight: Tensor) -> None:
        assert weight.grad is not None
        squares[layer] += float(weight.grad.double().square().sum())

    watched = [(at, w) for at, w in model.weights().items() if w.requires_grad]
    hooks = [w.register_post_accumulate_grad_hook(partial(note, _layer(at))) for at, w in watched]
    norms: dict[str, float] = {}
    try:
        yield norms
    finally:
        for hook in hooks:
            hook.remove()
    norms |= {layer: squares[layer] ** 0.5 for layer in sorted(squares)}


def _layer(address: str) -> str:
    """The layer that a parameter is in: "layers.0", "encoder.layers.2", "table", "norm"."""
    before, layers, after = address.rpartition("layers.")
    if layers:
        return f"{before}{layers}{after.partition('.')[0]}"
    return "table" if "embedding" in address else "norm"


@torch.inference_mode()
def writing(model: Transformer, asked: Batch) -> float:
    """The mean loss of every target where the model is given nothing but what stands before it."""
    total = 0.0
    for end in range(1, asked.ids.shape[1] + 1):
        logits = model(torch.from_numpy(asked.ids[:, :end]), ForwardContext())[:, -1]
        wanted = torch.from_numpy(asked.targets[:, end - 1])
        total += float(functional.cross_entropy(logits, wanted, reduction="sum"))
    return total / asked.targets.size


@torch.inference_mode()
def right(model: Transformer, asked: Batch) -> float:
    """The share of rows that greedy decoding would get right to the last token.

    That is where every target is the likeliest token behind the right ones before it.
    """
    ctx = ForwardContext(
        positions=torch.from_numpy(asked.positions), documents=torch.from_numpy(asked.documents)
    )
    source = None
    if asked.source is not None:
        assert asked.source_positions is not None and asked.source_documents is not None
        source = torch.from_numpy(asked.source)
        ctx = ForwardContext(
            positions=ctx.positions,
            documents=ctx.documents,
            source_positions=torch.from_numpy(asked.source_positions),
            source_documents=torch.from_numpy(asked.source_documents),
        )
    best = model(torch.from_numpy(asked.ids), ctx, source).argmax(-1).numpy()
    same = (best == asked.targets) | (asked.targets == NO_LOSS)
    return float(same.all(1).mean())


@torch.inference_mode()
def _following(
    model: Transformer, source: list[int] | None, ids: list[int]
) -> NDArray[np.floating]:
    there = None if source is None else torch.tensor([source])
    logits = model(torch.tensor([ids]), ForwardContext(), there)[0, -1]
    found: NDArray[np.floating] = logits.double().softmax(-1).numpy()
    return found


def _answered(
    following: Next, material: Text | Pairs, opening: list[int]
) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
    """What is written behind `opening`, always the likeliest token; and the first one's rivals."""
    words, ids = material.words, list(opening)
    first = following(ids)
    best = np.argsort(-first, kind="stable")[:TOP].tolist()
    while len(ids) < len(opening) + LONGEST and (ids == opening or ids[-1] != words.end):
        ids.append(int(following(ids).argmax()))
    answer = written(words, ids[len(opening) :])
    return answer, tuple(words.words[id] for id in best), tuple(float(first[id]) for id in best)


def _counted(lines: Text, seed: int) -> Record:
    """The n-gram model: one pass over the text, and there is nothing to learn but counts."""
    settings, words = lines.settings, lines.words
    began = time.process_time()
    model = NGram.train([lines.train.tolist()], words, settings.order)
    seconds = time.process_time() - began
    asked, total = lines.asked(), 0.0
    for ids, targets in zip(asked.ids.tolist(), asked.targets.tolist(), strict=True):
        for at, target in enumerate(targets):
            total -= float(np.log(model.probabilities(ids[: at + 1])[target]))
    loss = total / asked.targets.size
    answer, top, shares = _answered(model.probabilities, lines, lines.line(settings.opening))
    return Record(
        name="n-gram",
        seed=seed,
        parameters=sum(len(level.counts) for level in model.table.levels),
        tokens=len(lines.train),
        seconds=seconds,
        learnt=(),
        held_out=((1.0, loss),),
        writing=loss,
        first={},
        last={},
        answer=answer,
        top=top,
        shares=shares,
    )
