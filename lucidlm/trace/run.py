"""What happened to one sequence, by absolute position: captured values, and recomputed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np

from lucidlm.config import Config
from lucidlm.engine import EXACT, Engine, Rounding
from lucidlm.errors import TraceError
from lucidlm.generate.loop import StopReason
from lucidlm.generate.sampling import History, Sampled, penalise
from lucidlm.generate.settings import GenerationSettings
from lucidlm.generate.stream import Decoder
from lucidlm.parameters import parameters
from lucidlm.text.spelling import labels
from lucidlm.trace.address import parse
from lucidlm.trace.aliases import resolve
from lucidlm.trace.backing import Backing
from lucidlm.trace.edits import BoundEdit
from lucidlm.trace.operations import Array
from lucidlm.trace.replay import Replay
from lucidlm.trace.site import PARAMETERS, Site, parameter_axes
from lucidlm.trace.sites import catalogue
from lucidlm.trace.tokenized import Tokenized

Phase = Literal["encode", "prefill", "decode"]
INDICES = frozenset({"ids", "segments"})  # of a stack: rows of its tables


@dataclass(frozen=True)
class Token:
    """One position. `step` counts the passes that read the sequence; None where no pass has."""

    position: int
    id: int
    bytes: bytes
    label: str
    phase: Phase
    step: int | None
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Header:
    """Everything about a trace but its arrays."""

    name: str  # of the model
    config: Config | None
    dtype: str  # the engine computed in
    tokens: tuple[Token, ...]
    sources: tuple[Token, ...] = ()
    prompt_length: int
    length: int  # positions that the model has read
    source_length: int = 0
    text: str = ""
    stop_reason: StopReason | None = None
    settings: GenerationSettings | None = None
    draws: tuple[float | None, ...] = ()  # of each chosen token
    beam_score: float | None = None
    tokenized: Callable[[], Tokenized]  # to lay a large vocabulary out takes a second or two
    seconds: tuple[float, ...] = ()  # by step
    fingerprint: str = ""
    rounding: Mapping[str, Rounding] = field(default_factory=lambda: EXACT)  # the engine's


@dataclass(frozen=True, eq=False)
class Run:
    """One run over one sequence.

    `trace["layers.3.attention.pattern"]` is an array along the axes that `trace.site(...)` names;
    `[head=2, query=5]` behind a site cuts it. What was not captured is recomputed when asked for,
    one part of the model at a time, by the engine that made the run and with its edits.
    """

    header: Header
    backing: Backing
    engine: Engine | None  # None where a saved trace was opened without its model
    decoder: Decoder | None = None  # what gives the vocabulary its words
    edits: tuple[BoundEdit, ...] = ()
    hypotheses: tuple[Self, ...] = field(default=(), repr=False)  # of a beam search, best first

    # -- what it is of ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.header.name

    @property
    def config(self) -> Config | None:
        return self.header.config

    @property
    def dtype(self) -> str:
        return self.header.dtype

    @property
    def tokens(self) -> tuple[Token, ...]:
        return self.header.tokens

    @property
    def sources(self) -> tuple[Token, ...]:
        """What the encoder read, where there are two stacks."""
        return self.header.sources

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(token.id for token in self.tokens)

    @property
    def length(self) -> int:
        """Positions that the model has read; the last chosen token is usually not among them."""
        return self.header.length

    @property
    def source_length(self) -> int:
        return self.header.source_length

    @property
    def prompt_length(self) -> int:
        return self.header.prompt_length

    @property
    def chosen(self) -> range:
        """Positions of the tokens that were chosen."""
        return range(self.prompt_length, len(self.tokens))

    @property
    def text(self) -> str:
        return self.header.text

    @property
    def stop_reason(self) -> StopReason | None:
        return self.header.stop_reason

    @property
    def beam_score(self) -> float | None:
        """What a beam search ranked this hypothesis by; None where none searched."""
        return self.header.beam_score

    @cached_property
    def catalogue(self) -> Mapping[str, Site]:
        return catalogue(self.config, self.header.rounding)

    @property
    def drift(self) -> Mapping[str, float]:
        """For each part replayed so far: how far its output was from what the run went on with, as
        a share of the largest value at that position.
        """
        return {} if self._replay is None else self._replay.drift

    def label(self, id: int) -> str:
        """A word of the vocabulary to read: its text, or what part of a character it holds."""
        if self.decoder is not None:
            return labels([self.decoder.bytes_of(id)])[0]
        return next((token.label for token in self.tokens if token.id == id), f"#{id}")

    def hypothesis(self, k: int) -> Self:
        """The k-th best of a beam search."""
        found = self.hypotheses or (self,)
        if not 0 <= k < len(found):
            raise TraceError("trace.no_hypothesis", k=k, count=len(found))
        return found[k]

    # -- values ----------------------------------------------------------------------------------

    def __getitem__(self, address: str) -> Any:
        """The values at an address: a site or a parameter, an alias of one, `ids`; or a slice of
        it (`[head=2, query=5]`).
        """
        name, bracket, inside = address.partition("[")
        axes: Sequence[str]
        if name.endswith(PARAMETERS):
            values = self.weight(name)
            axes = parameter_axes(name, values.ndim)
        elif self._is_index(name):
            values, axes = self.read(name), ("position",)
        else:
            site = self.site(name)
            name, axes, values = site.address, site.axes, self.read(site.address)
        if not isinstance(values, np.ndarray):
            return values
        cut = parse(f"{name}{bracket}{inside}", {name: axes})
        found = values[cut.index(axes, values.shape, self.start(name))]
        return found.copy() if isinstance(found, np.ndarray) else found

    def site(self, name: str) -> Site:
        """The site of an address or alias. Raises UnknownName with the nearest ones."""
        return self.catalogue[resolve(name, self.config, self.catalogue)]

    def read(self, address: str) -> Any:
        """A whole site; `ids` and `segments` of a stack too."""
        stack, _, noun = address.rpartition(".")
        if self._is_index(address):
            tokens = self.sources if stack == "encoder" else self.tokens[: self.length]
            return np.array([token.id if noun == "ids" else 0 for token in tokens], np.int64)
        site = self.catalogue[address]
        if site.part == "tokenizer":
            return getattr(self.header.tokenized(), noun)
        if site.part == "sampling":
            return self._sampling(noun)
        if address in self.backing.addresses:
            return self.backing.read(address)
        if site.derived:
            return site.operation.compute(self).value
        values = self._replayer.part(site.part)[address]
        if address == "head.logits":  # those that tokens were chosen from were captured
            values = values.copy()
            for position in self.chosen:
                values[position - 1] = self.backing.logits(position - 1)
        return values

    def weight(self, address: str) -> Array:
        """A parameter of the model, by its address or an alias."""
        if self.engine is None:
            raise TraceError("trace.no_model", address=address, name=self.name)
        try:
            return self.engine.weight(address)
        except KeyError:
            known = {} if self.config is None else parameters(self.config)
            return self.engine.weight(resolve(address, self.config, known))

    def start(self, address: str) -> int:
        """The position at index 0: what was sampled begins behind the prompt."""
        return self.prompt_length if address.startswith("sampling.") else 0

    def is_seen(self, address: str, position: int | None = None) -> bool:
        """Whether a site was captured as the model ran; otherwise it is recomputed. Of the logits,
        those at `position` are where a token was chosen from them.
        """
        site = self.catalogue[address]
        outside = site.part in {"tokenizer", "sampling"}
        chosen = address == "head.logits" and position is not None and position + 1 in self.chosen
        return outside or chosen or address in self.backing.addresses

    def sampled(self, position: int) -> Sampled:
        """How the token at `position` was chosen."""
        settings = self.header.settings
        if position not in self.chosen or settings is None:
            raise TraceError(
                "trace.not_chosen",
                position=position,
                low=self.prompt_length,
                high=len(self.tokens) - 1,
            )
        logits = self.backing.logits(position - 1).astype(np.float32)
        ids = self.ids[:position]
        prompt, said = ids[: self.prompt_length], ids[self.prompt_length :]
        forced = settings.forced_bos if not said else None
        penalised = penalise(logits, settings.sampling, History.of(prompt, said), forced)
        return Sampled(
            settings=settings.sampling,
            logits=logits,
            penalised=penalised,
            draw=self.header.draws[position - self.prompt_length],
            forced=forced,
        )

    @staticmethod
    def _is_index(address: str) -> bool:
        """Whether this is what a table is looked up by, rather than a site."""
        stack, _, noun = address.rpartition(".")
        return noun in INDICES and stack in {"", "encoder", "decoder"}

    def _sampling(self, noun: str) -> Array:
        """One stage for every chosen token, (chosen,) or (chosen, vocab); NaN where no number was
        drawn.
        """
        if noun == "id":  # a beam search's are not each the best of their moment
            return np.array(self.ids[self.prompt_length :])
        rows = [getattr(self.sampled(position), noun) for position in self.chosen]
        return np.array([np.nan if row is None else row for row in rows])

    @cached_property
    def _replay(self) -> Replay | None:
        if self.engine is None or self.config is None:
            return None
        captured = self.backing.addresses
        return Replay(self.engine, self.config, self.catalogue, self.edits, self.read, captured)

    @property
    def _replayer(self) -> Replay:
        if self._replay is None:
            raise TraceError("trace.no_model", address="", name=self.name)
        return self._replay
