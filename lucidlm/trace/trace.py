"""A trace: one run over one sequence, and all that can be asked of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from lucidlm.engine import Engine
from lucidlm.generate.stream import Decoder
from lucidlm.trace import files
from lucidlm.trace.attribution import Attribution, attribute
from lucidlm.trace.diff import Diff, diff
from lucidlm.trace.explain import Explanation, explain
from lucidlm.trace.heads import HeadReport, TokenReport, heads, tokens
from lucidlm.trace.lens import Lens, lens
from lucidlm.trace.report import html, write_html
from lucidlm.trace.run import Run
from lucidlm.trace.verify import Verification, verify
from lucidlm.trace.why import Why, why

Path = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Trace(Run):
    """One run over one sequence.

    `Run` holds the values: `trace["layers.3.attention.pattern[head=2]"]`. Here are the verbs.
    """

    def explain(self, address: str, depth: int = 0, breadth: int = 3) -> Explanation:
        """How one number was computed: every term with its own address, the sum in float64, and the
        difference from what was recorded. `depth` explains the `breadth` largest operands too.
        """
        return explain(self, address, depth, breadth)

    def verify(self, sites: Iterable[str] | None = None) -> Verification:
        """Compute every number of the run again in float64, from its recorded operands."""
        return verify(self, sites)

    def why(self, word: str | int | None = None, position: int | None = None) -> Why:
        """What made a word probable: earlier words, layers, and what happens without them."""
        return why(self, word, position)

    def lens(
        self,
        word: str | int | None = None,
        positions: Sequence[int] | None = None,
        top: int = 5,
    ) -> Lens:
        """What the model would say if it ended after each sublayer (nostalgebraist 2020)."""
        return lens(self, word, positions, top)

    def attribute(
        self,
        word: str | int | None = None,
        position: int | None = None,
        *,
        by_head: bool = False,
        by_word: bool = False,
    ) -> Attribution:
        """Which part of the model adds how much to a word's logit; the parts sum to it. `by_head`
        splits attention into its heads, `by_word` into the words that it looked at.
        """
        return attribute(self, word, position, by_head=by_head, sources=by_word)

    def heads(self) -> tuple[HeadReport, ...]:
        """Entropy of every attention head, and what it can be seen to do."""
        return heads(self)

    def surprise(self) -> tuple[TokenReport, ...]:
        """Entropy and surprise, in bits, of every token that something was predicted for."""
        return tokens(self)

    def diff(self, other: Run, top: int = 5) -> Diff:
        """Where this run and another one part."""
        return diff(self, other, top)

    def html(self, explain: Sequence[str] = (), lang: str = "en") -> str:
        """A report of the run as one page without outside parts, with the explanations asked
        for.
        """
        return html(self, explain, lang)

    def write_html(self, path: Path, explain: Sequence[str] = (), lang: str = "en") -> None:
        """The report as a file."""
        write_html(self, path, explain, lang)

    def save(self, path: Path) -> None:
        """Write what was captured to a safetensors file."""
        files.save(self, path)

    @classmethod
    def open(cls, path: Path, engine: Engine | None = None, decoder: Decoder | None = None) -> Self:
        """A saved trace. With the engine that made it, what was not captured can be recomputed.

        Raises TraceError for a file that is none or is damaged, and for an engine with other
        weights.
        """
        header, backing, edits = files.read(path, engine)
        return cls(header=header, backing=backing, engine=engine, decoder=decoder, edits=edits)
