"""Why a word was as probable as it was: what becomes of it without each earlier word, and what each
layer wrote for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lucidlm.engine import ForwardContext
from lucidlm.errors import LucidError, TraceError
from lucidlm.generate.sampling import softmax
from lucidlm.locale import text
from lucidlm.trace import predictions
from lucidlm.trace.attribution import attribute
from lucidlm.trace.numbers import percent
from lucidlm.trace.operations import Array
from lucidlm.trace.run import Run, Token
from lucidlm.trace.words import listed

REMOVED = 64  # words at most that are left out, each in a run of its own
BATCH = 1 << 22  # attention weights of a head, or logits, at most in one batch of runs
NAMED = 3  # words and layers in a sentence
SUBLAYER = re.compile(r"(?:\w+\.)?layers\.(\d+)\.(cross_attention|attention|feedforward)\b")


@dataclass(frozen=True)
class Without:
    """An earlier token, and the word's probability in a run that never saw it."""

    stack: Literal["source", "text"]
    position: int
    id: int
    label: str
    probability: float


@dataclass(frozen=True)
class Share:
    """What one part wrote into the word's logit; `layer` is None for what no layer wrote (the
    embedding, a bias).
    """

    layer: int | None
    part: str  # "attention", "cross_attention", "feedforward", "rest"
    value: float


@dataclass(frozen=True, kw_only=True)
class Why:
    """The probability of one word at one position, over the whole vocabulary and before every
    sampling setting; and what made it.

    `removed` is in order of effect, and holds all `earlier` tokens or the `REMOVED` of them that
    attention looked at most. Where words or layers could not be looked at, `no_words` or
    `no_layers` says why.
    """

    word: str
    id: int
    position: int
    probability: float
    logit: float
    earlier: int
    removed: tuple[Without, ...]
    shares: tuple[Share, ...]  # largest first; they add up to `logit`
    no_words: LucidError | None = None
    no_layers: LucidError | None = None

    def words(self, lang: str) -> tuple[str, ...]:
        """Sentences that say it."""
        return tuple(_sentences(self, lang))

    def to_json(self, lang: str = "en") -> dict[str, Any]:
        """Plain values, the sentences among them."""
        reasons = {
            name: None if error is None else error.message(lang)
            for name, error in (("no_words", self.no_words), ("no_layers", self.no_layers))
        }
        lists = {
            "removed": [asdict(one) for one in self.removed],
            "shares": [asdict(one) for one in self.shares],
        }
        return {**vars(self), **lists, **reasons, "words": list(self.words(lang))}


def why(run: Run, word: str | int | None = None, position: int | None = None) -> Why:
    """Why `word` (a token's text or id; by default the one that stands there, or the likeliest) was
    as probable as it was at `position`: of a model that writes, the last chosen one by default.

    Raises TraceError where the model has no probabilities, the position was not predicted, or the
    word is no token.
    """
    config = run.config
    reads = config is not None and config.kind == "encoder"
    if config is not None:
        predictions.check(run)
    position = _position(run, position, reads)
    logits = _logits(run, position, reads)
    id = _id(run, word, position, logits, reads)
    removed: tuple[Without, ...] = ()
    probability = float(softmax(logits)[id])
    earlier = list(_earlier(run, position, reads))
    no_words = _no_words(run, earlier)
    if no_words is None:
        found = _without(run, id, position, _looked_at(run, earlier, position, reads), reads)
        removed = tuple(sorted(found, key=lambda one: -abs(one.probability - probability)))
    shares, no_layers = _shares(run, id, position, reads)
    return Why(
        word=run.label(id),
        id=id,
        position=position,
        probability=probability,
        logit=float(logits[id]),
        earlier=len(earlier),
        removed=removed,
        shares=shares,
        no_words=no_words,
        no_layers=no_layers,
    )


# -- what is asked ---------------------------------------------------------------------------------


def _position(run: Run, position: int | None, reads: bool) -> int:
    low, high = (0, run.length - 1) if reads else (1, run.length)
    if position is None:
        if reads:
            raise TraceError("glass.which_position", low=low, high=high)
        return run.chosen[-1] if run.chosen else high
    found = position + len(run.tokens) if position < 0 else position
    if not low <= found <= high:
        raise TraceError("glass.not_predicted", position=position, low=low, high=high)
    return found


def _logits(run: Run, position: int, reads: bool) -> Array:
    if position in run.chosen:
        return run.sampled(position).logits
    return next(predictions.logits(run, (position if reads else position - 1,)))


def _id(run: Run, word: str | int | None, position: int, logits: Array, reads: bool) -> int:
    if word is None:
        stands = not reads and position < len(run.tokens)  # where a model fills in, a mask does
        return run.tokens[position].id if stands else int(logits.argmax())
    return predictions.token_id(run, word, logits.size)


# -- words -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A token that may be left out."""

    stack: Literal["source", "text"]
    position: int
    token: Token


def _earlier(run: Run, position: int, reads: bool) -> Iterator[_Place]:
    """The tokens that the prediction could see; one that is left alone in its stack stays."""
    first = 0
    if run.sources:
        first = 1  # the token that the decoder starts from
        if len(run.sources) > 1:
            yield from (_Place("source", at, token) for at, token in enumerate(run.sources))
    seen = run.tokens[: run.length] if reads else run.tokens[:position]
    places = [_Place("text", at, t) for at, t in enumerate(seen) if at >= first and at != position]
    if len(seen) > 1:
        yield from places


def _no_words(run: Run, earlier: Sequence[_Place]) -> LucidError | None:
    if run.engine is None:
        return TraceError("glass.no_model")
    if run.edits:
        return TraceError("glass.edited")
    return None if earlier else TraceError("glass.no_earlier")


def _looked_at(run: Run, places: list[_Place], position: int, reads: bool) -> list[_Place]:
    """At most `REMOVED` of `places`: those with most attention, over all layers and heads, from
    where the word was predicted.
    """
    if len(places) <= REMOVED or run.config is None:
        return places[-REMOVED:]
    asks = position if reads else position - 1
    seen = {"source": np.zeros(len(run.sources)), "text": np.zeros(len(run.tokens))}
    for site in run.catalogue.values():
        if site.key == "attention.pattern" and not site.address.startswith("encoder."):
            row = np.nan_to_num(np.asarray(run.read(site.address)[:, asks], np.float64)).sum(0)
            seen["source" if site.sizes[2] == "sources" else "text"][: row.size] += row
    ranked = sorted(places, key=lambda place: -seen[place.stack][place.position])
    return ranked[:REMOVED]


def _without(
    run: Run, id: int, position: int, places: Sequence[_Place], reads: bool
) -> Iterator[Without]:
    """The model again on every shortened sequence."""
    assert run.engine is not None
    texts = [token.id for token in (run.tokens[: run.length] if reads else run.tokens[:position])]
    sources = [token.id for token in run.sources]
    cost = len(texts) * (run.engine.vocab_size if reads else 1) + len(sources)
    rows = max(1, BATCH // cost) if reads else max(1, min(REMOVED, BATCH // (cost * cost)))
    for start in range(0, len(places), rows):
        some = places[start : start + rows]
        given = [(_cut(sources, place, "source"), _cut(texts, place, "text")) for place in some]
        if reads:
            ctx = ForwardContext(every_position=True)
            whole = run.engine.step([row for _, row in given], ctx)
            asked = [position - (place.position < position) for place in some]
            logits = [row[at] for row, at in zip(whole, asked, strict=True)]
        else:
            ctx = ForwardContext()
            if sources:
                ctx = ForwardContext(cache=run.engine.cache(len(some)))
                run.engine.encode([row for row, _ in given], ctx)
            logits = list(run.engine.step([row for _, row in given], ctx))
        for place, row in zip(some, logits, strict=True):
            token, left = place.token, float(softmax(row)[id])
            yield Without(place.stack, place.position, token.id, token.label, left)


def _cut(ids: Sequence[int], place: _Place, stack: str) -> list[int]:
    return [id for at, id in enumerate(ids) if stack != place.stack or at != place.position]


# -- layers ----------------------------------------------------------------------------------------


def _shares(
    run: Run, id: int, position: int, reads: bool
) -> tuple[tuple[Share, ...], LucidError | None]:
    """What the layers wrote into the logit, grouped; or why that cannot be told."""
    if run.config is None:
        return (), TraceError("glass.no_layers")
    try:
        found = attribute(run, id, position if reads else position - 1)
    except LucidError as error:
        return (), error
    sums: dict[tuple[int | None, str], float] = {}
    for name, value in found.parts:
        match = SUBLAYER.match(name)
        at = (int(match[1]), match[2]) if match else (None, "rest")
        sums[at] = sums.get(at, 0.0) + float(value)
    shares = (Share(layer, part, value) for (layer, part), value in sums.items())
    return tuple(sorted(shares, key=lambda share: -abs(share.value))), None


# -- sentences -------------------------------------------------------------------------------------


def _sentences(found: Why, lang: str) -> Iterator[str]:
    def say(key: str, **values: object) -> str:
        return text(f"glass.why_{key}", lang, **values)

    whole = percent(found.probability)
    yield say("is", word=found.word, position=found.position, probability=whole)
    if found.no_words is not None:
        yield found.no_words.message(lang)
    for direction, sign in (("falls", 1), ("rises", -1)):
        moved = [one for one in found.removed if sign * (found.probability - one.probability) > 0]
        named = listed(
            [
                say(direction, word=_named(found, one, lang), probability=percent(one.probability))
                for one in moved[:NAMED]
            ],
            "clause",
            lang,
        )
        if named:
            yield say("without", changes=named[0].upper() + named[1:])
    if found.earlier > len(found.removed) > 0:
        yield say("some", count=len(found.removed), every=found.earlier)
    if found.no_layers is not None:
        yield found.no_layers.message(lang)
    for direction, sign in (("wrote", 1), ("took", -1)):
        moved_it = [s for s in found.shares if s.layer is not None and s.value * sign > 0]
        parts = [
            say(share.part, layer=share.layer, value=f"{share.value:+.3g}")
            for share in moved_it[:NAMED]
        ]
        named = listed(parts, "part", lang)
        if named:
            yield say(direction, logit=f"{found.logit:.4g}", parts=named)


def _named(found: Why, one: Without, lang: str) -> str:
    """Its text, with the position where several read alike."""
    key = "source" if one.stack == "source" else "word"
    alike = sum(other.label == one.label for other in found.removed) > 1
    values = {"label": one.label, "position": one.position}
    return text(f"glass.why_{key}_at" if alike else f"glass.why_{key}", lang, **values)
