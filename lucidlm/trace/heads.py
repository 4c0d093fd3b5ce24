"""What the heads of a run look at, by stated formulas, and how sure the model was at each position.

With A[h,q,k] the attention pattern and T positions:

    previous token   mean over q >= 1 of A[h, q, q-1]
    first token      mean over q >= 1 of A[h, q, 0]           (a sink; Xiao et al. 2023)
    induction        mean over the q whose token stands at some earlier j of the sum over those j of
                     A[h, q, j+1]                             (Olsson et al. 2022)

A score above `TAGGED` gives the head a tag.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lucidlm.errors import TraceError
from lucidlm.locale import text
from lucidlm.reference.equations import wide
from lucidlm.trace import predictions
from lucidlm.trace.operations import Doubles, cell
from lucidlm.trace.run import Run
from lucidlm.trace.site import Site

Tag = Literal["previous_token", "first_token", "induction"]
TAGS: tuple[Tag, ...] = ("previous_token", "first_token", "induction")
TAGGED = 0.5  # a score above this gives the tag


@dataclass(frozen=True, kw_only=True)
class HeadReport:
    """One head of a self-attention. `entropy` is that of its weights in bits, the mean over the
    queries. A score is None where the text does not allow it: of one token only, or without a
    repeated one.
    """

    layer: int
    head: int
    address: str  # of its pattern: layers.3.attention.pattern[head=2]
    entropy: float
    previous_token: float | None
    first_token: float | None
    induction: float | None

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The kinds whose score is above `TAGGED`."""
        scores: dict[Tag, float | None] = {
            "previous_token": self.previous_token,
            "first_token": self.first_token,
            "induction": self.induction,
        }
        return tuple(tag for tag in TAGS if (scores[tag] or 0.0) > TAGGED)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"tags": list(self.tags)}


@dataclass(frozen=True, kw_only=True)
class TokenReport:
    """One position's logits: how much the token that came was a surprise, and how open it was what
    would come, both in bits.

    `predicts` is the place they are for: the next one, of an encoder the position itself. `id`,
    `label` and `surprise` are None where no token stands there.
    """

    position: int
    predicts: int
    id: int | None
    label: str | None
    surprise: float | None
    entropy: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def tag_words(tag: Tag, lang: str) -> str:
    """A tag in words."""
    return text(f"lens.tag_{tag}", lang)


def tag_formula(tag: Tag, lang: str) -> str:
    """The formula of a tag's score, and the threshold, in a sentence."""
    return text(f"lens.formula_{tag}", lang, threshold=TAGGED)


def heads(run: Run) -> tuple[HeadReport, ...]:
    """Every head of every self-attention, an encoder's first. Raises TraceError for a model without
    layers.
    """
    if run.config is None:
        raise TraceError("lens.no_layers", name=run.name)
    return tuple(report for site in self_attentions(run) for report in _site(run, site))


def self_attentions(run: Run) -> tuple[Site, ...]:
    """The pattern of each, in order of computation."""
    return tuple(
        site
        for site in run.catalogue.values()
        if site.key == "attention.pattern" and site.sizes[1] == site.sizes[2]
    )


def tokens(run: Run) -> tuple[TokenReport, ...]:
    """Surprise and entropy for every position that the model has read. Raises TraceError for a
    model without layers or logits.
    """
    return tuple(_tokens(run))


def scores(pattern: Doubles, ids: Sequence[int]) -> Iterator[tuple[float, ...]]:
    """Entropy, previous-token, first-token and induction score of each head of `pattern` (H, T, T)
    over the tokens `ids`; NaN where there is nothing to take the mean of.
    """
    here = np.asarray(ids)
    # again[q, k]: the token of q stands at k - 1, before q
    same = np.tril(here[:, None] == here[None, :], -1)
    again = np.zeros(same.shape)
    again[:, 1:] = same[:, :-1]
    repeated = same.any(-1)
    for weights in pattern:
        logs = np.log2(np.where(weights > 0, weights, 1.0))
        found = (weights * again).sum(-1)[repeated]
        yield (
            float(-(weights * logs).sum(-1).mean()),
            _mean(np.diagonal(weights, -1)),
            _mean(weights[1:, 0]),
            _mean(found),
        )


def _mean(values: Doubles) -> float:
    return float(values.mean()) if values.size else math.nan


def _site(run: Run, site: Site) -> Iterator[HeadReport]:
    rows = run.sources if site.address.startswith("encoder.") else run.tokens[: run.length]
    pattern = np.nan_to_num(wide(run.read(site.address)))
    found = scores(pattern, [token.id for token in rows])
    for head, (entropy, *rest) in enumerate(found):
        previous, first, induction = (None if math.isnan(x) else x for x in rest)
        yield HeadReport(
            layer=int(site.part.rpartition(".")[2]),
            head=head,
            address=cell(site.address, ("head", head)),
            entropy=entropy,
            previous_token=previous,
            first_token=first,
            induction=induction,
        )


def _tokens(run: Run) -> Iterator[TokenReport]:
    for position, row in enumerate(predictions.logits(run, range(run.length))):
        place = predictions.predicts(run, position)
        token = run.tokens[place] if place < len(run.tokens) else None
        logs = predictions.log_softmax(row)
        yield TokenReport(
            position=position,
            predicts=place,
            id=None if token is None else token.id,
            label=None if token is None else token.label,
            surprise=None if token is None else max(0.0, float(-logs[token.id] / np.log(2))),
            entropy=float(predictions.entropy(logs)),
        )
