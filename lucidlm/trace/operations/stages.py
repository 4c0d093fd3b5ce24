"""What happens outside the network: the tokenizer's stages before it, the sampler's behind it."""

from __future__ import annotations

from dataclasses import dataclass

from lucidlm.trace.operations.base import Computed, Index, Operation, Values, Worked


@dataclass(frozen=True)
class SamplingStage(Operation):
    """One stage of `generate.sampling`. `logits` names the head's site, None where there is none."""

    kind = "sample"
    stage: str
    logits: str | None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.logits,) if self.stage == "logits" and self.logits else ()

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError


@dataclass(frozen=True)
class TokenizerStage(Operation):
    """One stage of the way from a text to its ids; not numbers."""

    kind = "tokenize"
    stage: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    def compute(self, values: Values) -> Computed:
        raise NotImplementedError

    def cell(self, values: Values, at: Index) -> Worked:
        raise NotImplementedError
