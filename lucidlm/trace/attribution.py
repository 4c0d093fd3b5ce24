"""Direct logit attribution: which part of the model wrote how much of one logit.

Once the scales that the norms divided by are taken as they were, everything from the embedding to
the logit is linear: the logit is a sum over what the embedding, every attention and every
feed-forward wrote, each times one direction. The walk goes backwards from the head and carries that
direction; a norm turns it, an addition leaves one part behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from lucidlm.config import Attention, Norm, Stack
from lucidlm.errors import TraceError
from lucidlm.reference.equations import wide
from lucidlm.trace import predictions
from lucidlm.trace.operations import Doubles
from lucidlm.trace.run import Run
from lucidlm.trace.stacks import last_residual, output_stack, prefixes


class Part(NamedTuple):
    """One summand of a logit. `name` begins with the address of what wrote it:
    `layers.3.attention`, `layers.3.attention[head=2]`, `final_norm.bias`; `edit:ADDRESS` is what an
    edit changed there.
    """

    name: str
    value: float


class WordPart(NamedTuple):
    """What all heads of all layers brought from one earlier position."""

    position: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """A logit as a sum.

    With sources, `by_word` and `by_source` hold what attention brought from each position of the
    text and of the encoder's text, and `rest` everything else: the position's own embedding, the
    feed-forwards, the biases. These sum to the same total.
    """

    position: int  # whose logits these are
    id: int
    label: str
    parts: tuple[Part, ...]  # in order of computation
    logit: float  # as recorded
    by_word: tuple[WordPart, ...] = ()
    by_source: tuple[WordPart, ...] = ()
    rest: float | None = None

    @property
    def total(self) -> float:
        """The sum of the parts in float64."""
        return math.fsum(part.value for part in self.parts)

    @property
    def remainder(self) -> float:
        """What the parts leave of the recorded logit: rounding."""
        return self.logit - self.total

    def to_json(self) -> dict[str, Any]:
        sums = {"total": self.total, "remainder": self.remainder}
        lists = {
            name: [part._asdict() for part in getattr(self, name)]
            for name in ("parts", "by_word", "by_source")
        }
        return asdict(self) | lists | sums


def attribute(
    run: Run,
    word: str | int | None = None,
    position: int | None = None,
    *,
    by_head: bool = False,
    sources: bool = False,
) -> Attribution:
    """The logit of `word` (a token's text or id) at `position` as an exact sum of parts.

    The logits at position p are for the token at p + 1; of an encoder for that at p. By default it
    is the last choice: the token chosen last, at the position before it; where nothing was chosen,
    the likeliest word at the last position. `by_head` splits attention into heads, `sources` into
    the positions it was read from.

    Raises TraceError for a model without layers or logits, for a trace without its model, and for a
    head that bends its input before the words' rows, whose logits are no such sum.
    """
    predictions.check(run)
    assert run.config is not None and run.config.head is not None
    if run.config.head.transform is not None:
        raise TraceError("lens.bent_head", name=run.name)
    if position is None:
        position = predictions.default_positions(run)[-1]
    position = predictions.check_position(run, position)
    id = predictions.words_at(run, word, (position,))[0]
    logit = float(next(predictions.logits(run, (position,)))[id])
    walk = _Walk(run, position, by_head=by_head, sources=sources)
    parts = tuple(walk.parts(id, logit))
    rest = None
    if sources:
        rest = math.fsum(part.value for part in parts)
        rest -= math.fsum(walk.text) + math.fsum(walk.memory)
    return Attribution(
        position=position,
        id=id,
        label=run.label(id),
        parts=parts,
        logit=logit,
        by_word=tuple(WordPart(at, float(value)) for at, value in enumerate(walk.text)),
        by_source=tuple(WordPart(at, float(value)) for at, value in enumerate(walk.memory)),
        rest=rest,
    )


class _Walk:
    """One way back from a logit. `direction` (dim,) is what a vector at the present place is
    multiplied by on its way to the logit.
    """

    def __init__(self, run: Run, position: int, *, by_head: bool, sources: bool) -> None:
        assert run.config is not None
        self.run, self.position, self.config = run, position, run.config
        self.by_head, self.sources = by_head, sources
        self.at = output_stack(run.config)
        self.stack: Stack = prefixes(run.config)[self.at]
        self.edited = {edit.site.address for edit in run.edits}
        self.text = np.zeros(self._seen("attention") if sources else 0)
        crosses = sources and self.stack.cross is not None
        self.memory = np.zeros(run.source_length if crosses else 0)

    def parts(self, id: int, logit: float) -> list[Part]:
        return list(self._backwards(id, logit))[::-1]

    def _seen(self, sublayer: str) -> int:
        is_causal = self.stack.mask != "full" and sublayer == "attention"
        return self.position + 1 if is_causal else self.run.length

    def _backwards(self, id: int, logit: float) -> Iterator[Part]:
        """Every part, the last first."""
        head, last = self.config.head, last_residual(self.config, self.at)
        assert head is not None
        table = "embedding.tokens.weight" if head.tied else "head.weight"
        table = f"encoder.{table}" if head.tied and self.at else table
        self.direction = wide(self.run.weight(table)[id]) * head.scale
        bias = float(self.run.weight("head.bias")[id]) if head.bias else 0.0
        output = f"{self.at}final_norm.output" if self.stack.final_norm else last
        if "head.logits" in self.edited:
            yield Part("edit:head.logits", logit - bias - self._dot(self._read(output)))
        if head.bias:
            yield Part("head.bias", bias)
        if self.stack.final_norm:
            yield from self._norm(f"{self.at}final_norm", self.stack.norm, last)
        for layer in reversed(range(self.stack.layers)):
            yield from self._layer(f"{self.at}layers.{layer}")
        yield from self._embedding(f"{self.at}embedding")

    def _layer(self, at: str) -> Iterator[Part]:
        crossed = self.stack.cross is not None
        middle = f"{at}.residual_cross" if crossed else f"{at}.residual_mid"
        yield from self._sublayer(at, "feedforward", middle, f"{at}.residual_out", None)
        if self.stack.cross is not None:
            yield from self._sublayer(
                at, "cross_attention", f"{at}.residual_mid", middle, self.stack.cross
            )
        first = self.stack.attention
        yield from self._sublayer(at, "attention", f"{at}.residual_in", f"{at}.residual_mid", first)
        number = int(at.rpartition(".")[2])
        own = f"{self.at}layers.{number - 1}.residual_out" if number else self._embedded
        yield from self._edit(f"{at}.residual_in", own)

    def _sublayer(
        self, at: str, name: str, before: str, after: str, attention: Attention | None
    ) -> Iterator[Part]:
        """x = residual(x + output(sublayer(input(x)))), from its end to its beginning."""
        places, norm = self.stack.norm_places, self.stack.norm
        norms, written = f"{at}.{name}_norm", f"{at}.{name}.output"
        added = f"{norms}.added"
        yield from self._edit(after, f"{norms}.residual.output" if "residual" in places else added)
        if "residual" in places:
            yield from self._norm(f"{norms}.residual", norm, added)
        outer, inner = self.direction, written
        if "output" in places:
            inner = f"{norms}.output.output"
        yield from self._edit(added, before, inner)
        if attention is None or not (self.by_head or self.sources):
            yield Part(f"{at}.{name}", self._dot(self._read(inner)))
            return
        split: list[Part] = []
        if "output" in places:
            split += self._norm(f"{norms}.output", norm, written)
        split += self._attention(f"{at}.{name}", attention)
        self.direction = outer
        if self.by_head:
            yield from split
        else:
            yield Part(f"{at}.{name}", self._dot(self._read(inner)))

    def _attention(self, at: str, attention: Attention) -> Iterator[Part]:
        """The heads of one attention, and its bias. Values count with the pattern as it was."""
        shape = (-1, attention.heads, attention.head_dim)
        weight = wide(self.run.weight(f"{at}.output.weight")).reshape(shape)
        turned = np.einsum("d,dhi->hi", self.direction, weight)
        mixed = self._read(f"{at}.mixed")
        shares = (turned * mixed).sum(-1)
        bias = 0.0
        if attention.output_bias:
            bias = self._dot(wide(self.run.weight(f"{at}.output.bias")))
        if f"{at}.output" in self.edited:
            left = self._dot(self._read(f"{at}.output")) - bias - float(shares.sum())
            yield Part(f"edit:{at}.output", left)
        if attention.output_bias:
            yield Part(f"{at}.output.bias", bias)
        for head in reversed(range(attention.heads)):
            yield Part(f"{at}[head={head}]", float(shares[head]))
        if self.sources:
            pattern = wide(self.run.read(f"{at}.pattern")[:, self.position])  # (H, S)
            value = wide(self.run.read(f"{at}.value"))  # (S, KV, D)
            value = np.repeat(value, attention.heads // attention.kv_heads, axis=1)
            brought = np.einsum("hs,shi,hi->s", np.nan_to_num(pattern), value, turned)
            into = self.memory if at.endswith("cross_attention") else self.text
            into += brought[: into.size]

    def _embedding(self, at: str) -> Iterator[Part]:
        norm = self.config.embedding.norm
        if norm is not None:
            yield from self._norm(f"{at}.norm", norm, f"{at}.sum")
        nouns = ("tokens", "segments", "positions")
        summed = [f"{at}.{noun}" for noun in nouns if f"{at}.{noun}" in self.run.catalogue]
        yield from self._edit(f"{at}.sum", *summed)
        for address in reversed(summed):
            yield Part(address, self._dot(self._read(address)))

    @property
    def _embedded(self) -> str:
        normed = self.config.embedding.norm is not None
        return f"{self.at}embedding.{'norm.output' if normed else 'sum'}"

    def _norm(self, at: str, norm: Norm, source: str) -> Iterator[Part]:
        """Turns the direction back through a norm whose scale is taken as it was: it divides by the
        scale, and LayerNorm's mean, which is linear, is taken away. Its bias stays behind.
        """
        after = self.direction
        gained = after * (wide(self.run.weight(f"{at}.weight")) + norm.offset)
        before = gained / float(self._read(f"{at}.scale"))
        if norm.kind == "layer":
            before = before - before.mean()
        bias = 0.0
        if norm.kind == "layer":
            bias = self._dot(wide(self.run.weight(f"{at}.bias")))
        if self.edited & {f"{at}.{noun}" for noun in ("mean", "normalized", "output")}:
            changed = self._dot(self._read(f"{at}.output")) - bias
            yield Part(f"edit:{at}.output", changed - float(before @ self._read(source)))
        if norm.kind == "layer":
            yield Part(f"{at}.bias", bias)
        self.direction = before

    def _edit(self, address: str, *sources: str) -> Iterator[Part]:
        """What an edit at `address` made of the sum of its sources."""
        if address in self.edited:
            change = self._read(address) - sum(self._read(source) for source in sources)
            yield Part(f"edit:{address}", self._dot(change))

    def _read(self, address: str) -> Doubles:
        """A site at the position, in float64."""
        return wide(self.run.read(address)[self.position])

    def _dot(self, vector: Doubles) -> float:
        return float(self.direction @ vector)
