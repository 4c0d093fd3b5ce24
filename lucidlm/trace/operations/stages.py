"""What happens outside the network: the tokenizer's stages before it, the sampler's behind it."""

from __future__ import annotations

from dataclasses import dataclass

from lucidlm.trace.operations import candidates, sampling, tokenizing
from lucidlm.trace.operations.base import Computed, Index, Operation, Values, Worked


@dataclass(frozen=True)
class SamplingStage(Operation):
    """One stage of `generate.sampling`. `logits` names the head's site, if there is one."""

    kind = "sample"
    stage: str
    logits: str | None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.logits,) if self.stage == "logits" and self.logits else ()

    def compute(self, values: Values) -> Computed:
        """Magnitudes here count roundings of float32, the sampler's type, whatever the engine's. An
        infinite one says that two numbers are too near each other to say which is larger.
        """
        return sampling.compute(values, self.stage, self.logits)

    def cell(self, values: Values, at: Index) -> Worked:
        choice = sampling.Choice(values, *at)
        return candidates.CELLS[self.stage](choice, self.logits)


@dataclass(frozen=True)
class TokenizerStage(Operation):
    """One stage of the way from a text to its ids; not numbers."""

    kind = "tokenize"
    stage: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()

    def compute(self, values: Values) -> Computed:
        raise TypeError(f"tokenizer.{self.stage} is text")

    def cell(self, values: Values, at: Index) -> Worked:
        return tokenizing.cell(values, *at)
