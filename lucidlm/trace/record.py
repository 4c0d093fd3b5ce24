"""Run a model and keep what happened: one trace for each prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lucidlm.config import Config
from lucidlm.engine import Engine, ForwardContext, Ids
from lucidlm.errors import TraceError
from lucidlm.generate.beam import Hypothesis, beam_search
from lucidlm.generate.loop import StopReason, generate
from lucidlm.generate.prompt import check_source
from lucidlm.generate.settings import GenerationSettings
from lucidlm.generate.stream import Decoder, text_of
from lucidlm.text.spelling import labels
from lucidlm.trace import budget as limits
from lucidlm.trace.aliases import resolve
from lucidlm.trace.backing import Live
from lucidlm.trace.edits import BoundEdit, Edit
from lucidlm.trace.patterns import matching
from lucidlm.trace.recorder import Node, Recorder
from lucidlm.trace.run import Header, Phase, Token
from lucidlm.trace.site import Site
from lucidlm.trace.sites import catalogue, is_causal
from lucidlm.trace.stacks import last_residual, prefixes
from lucidlm.trace.store import Memory, Spill, Store
from lucidlm.trace.tokenized import Tokenized
from lucidlm.trace.trace import Trace


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is to be run: a model's parts, and how its prompts came about."""

    name: str
    engine: Engine
    config: Config | None
    decoder: Decoder
    prompts: Sequence[Ids]
    sources: Sequence[Ids] | None = None
    tokenized: Sequence[Callable[[], Tokenized]] = ()


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What to keep, what to change, and where to put it.

    `keep` are patterns of addresses (`*.pattern`) to capture as the model runs. `budget` bounds the
    bytes kept (a number, or "2GB"). `spill` puts them into a file that goes with the trace: True
    for the usual temporary folder, or a folder.
    """

    keep: Sequence[str] = ()
    edits: Sequence[Edit] = ()
    budget: int | str | None = None
    spill: bool | Path = False


@dataclass
class _Answer:
    """What came of one row of a batch."""

    ids: list[int] = field(default_factory=list)
    draws: list[float | None] = field(default_factory=list)
    text: str = ""
    reason: StopReason | None = None
    score: float | None = None


def record(
    subject: Subject, settings: GenerationSettings | None, recording: Recording
) -> list[Trace]:
    """Run `subject` and return a trace for each prompt; with beams each has its hypotheses.

    Without `settings` (an encoder's text) the model reads and nothing is generated. Raises
    TraceError before anything runs where `keep` or an edit names nothing, or the bytes that would
    be kept exceed the budget; GenerationError as `generate` does.
    """
    sites = catalogue(subject.config, subject.engine.rounding)
    edits = [_bind(edit, subject.config, sites) for edit in recording.edits]
    keep = _always(subject.config, sites) | _wanted(recording.keep, subject)
    _check(subject, settings, recording, [sites[address] for address in keep])
    recorder = Recorder(subject.engine, sites, frozenset(keep), edits, _store(recording, sites))
    run = _Recorded(subject, settings, recorder, tuple(edits))
    if settings is None:
        return run.read()
    return run.search(settings) if settings.beams > 1 else run.write(settings)


def _bind(edit: Edit, config: Config | None, sites: Mapping[str, Site]) -> BoundEdit:
    """`edit` on this model; aliases are accepted."""
    name, bracket, inside = edit.address.partition("[")
    if config is None:
        raise TraceError("trace.no_sites", address=edit.address)
    site = sites[resolve(name, config, sites)]
    bound = replace(edit, address=f"{site.address}{bracket}{inside}").bind(site)
    return replace(bound, causal=is_causal(site, sites))


def _wanted(patterns: Sequence[str], subject: Subject) -> set[str]:
    """The sites that the engine computes and `patterns` name."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    config, rounding = subject.config, subject.engine.rounding
    found = (site for pattern in patterns for site in matching(config, pattern, rounding))
    return {site.address for site in found if site.is_computed}


def _always(config: Config | None, sites: Mapping[str, Site]) -> set[str]:
    """What the rest follows from: the residual stream between the layers, and the logits."""
    if config is None:
        return set()
    found = {address for address in sites if address.endswith(".residual_in")}
    found |= {last_residual(config, stack) for stack in prefixes(config)}
    return found | ({"head.logits"} if config.head is not None else set())


def _check(
    subject: Subject,
    settings: GenerationSettings | None,
    recording: Recording,
    sites: Sequence[Site],
) -> None:
    beams = 1 if settings is None else settings.beams
    prompts = [len(list(prompt)) for prompt in subject.prompts] * beams
    sources = [len(list(source)) for source in subject.sources or ()] * beams
    sources = sources or [0] * len(prompts)
    new = 0 if settings is None else settings.max_new_tokens
    room = subject.engine.max_positions - min(prompts, default=0)
    itemsize = 8 if subject.engine.dtype == "float64" else 4
    needed = limits.estimate(sites, prompts, sources, max(0, min(new, room)), itemsize)
    folder = recording.spill if isinstance(recording.spill, Path) else None
    limits.check(needed, recording.budget, bool(recording.spill), folder)


def _store(recording: Recording, sites: Mapping[str, Site]) -> Store:
    if not recording.spill:
        return Memory()

    return Spill(
        lambda address: sites[address].grows,
        recording.spill if isinstance(recording.spill, Path) else None,
    )


@dataclass(frozen=True)
class _Recorded:
    """A subject under its recorder, and the traces of what came of it."""

    subject: Subject
    settings: GenerationSettings | None
    recorder: Recorder
    edits: tuple[BoundEdit, ...]

    def read(self) -> list[Trace]:
        """An encoder's texts: read whole, every position with its logits where there is a head."""
        subject, ctx = self.subject, ForwardContext(every_position=True)
        rows = [check_source(subject.engine, row) for row in subject.prompts]
        if subject.config is not None and subject.config.head is not None:
            self.recorder.step(rows, ctx)
        else:
            self.recorder.encode(rows, ctx)
        found = {leaf.row: leaf for leaf, _ in self.recorder.leaves}
        return [self.trace(row, _Answer(), [found[row]], None) for row in range(len(rows))]

    def write(self, settings: GenerationSettings) -> list[Trace]:
        """One text behind each prompt."""
        subject, answers = self.subject, [_Answer() for _ in self.subject.prompts]
        for step in generate(
            self.recorder,
            subject.prompts,
            settings,
            decoder=subject.decoder,
            sources=subject.sources,
        ):
            answer = answers[step.row]
            answer.ids.append(step.id)
            answer.draws.append(step.sampled.draw)
            answer.text += step.text
            answer.reason = step.finished
        ends = _Ends(self.recorder)
        return [self.follow(row, answer, ends) for row, answer in enumerate(answers)]

    def search(self, settings: GenerationSettings) -> list[Trace]:
        """The best text behind each prompt, with every hypothesis."""
        subject = self.subject
        found = beam_search(
            self.recorder,
            subject.prompts,
            settings,
            decoder=subject.decoder,
            sources=subject.sources,
        )
        ends, traces = _Ends(self.recorder), []
        for row, hypotheses in enumerate(found):
            answers = [_hypothesis(subject, settings, one) for one in hypotheses]
            each = tuple(self.follow(row, answer, ends) for answer in answers)
            traces.append(replace(each[0], hypotheses=each))
        return traces

    def follow(self, row: int, answer: _Answer, ends: _Ends) -> Trace:
        """The trace of an answer: of the passes that read it. The last token was not read."""
        return self.trace(
            row, answer, *ends.find(row, [*self.subject.prompts[row], *answer.ids[:-1]])
        )

    def trace(self, row: int, answer: _Answer, chain: list[Node], source: Node | None) -> Trace:
        """Row `row` of the prompts, read in the passes `chain`, its source in `source`."""
        return Trace(
            header=self.header(row, answer, chain, source),
            backing=Live(self.recorder.catalogue, chain, source, self.settings is None),
            engine=self.subject.engine,
            decoder=self.subject.decoder,
            edits=self.edits,
        )

    def header(self, row: int, answer: _Answer, chain: list[Node], source: Node | None) -> Header:
        subject, encodes = self.subject, self.settings is None
        prompt, decoder = list(subject.prompts[row]), subject.decoder
        steps = [number for number, node in enumerate(chain) for _ in node.ids]
        read = () if source is None else source.ids
        return Header(
            name=subject.name,
            config=subject.config,
            dtype=self.recorder.dtype,
            rounding=self.recorder.rounding,
            tokens=_tokens(decoder, [*prompt, *answer.ids], len(prompt), steps, encodes),
            sources=_tokens(decoder, read, len(read), [], True),
            prompt_length=len(prompt),
            length=len(steps),
            source_length=len(read),
            text=answer.text,
            stop_reason=answer.reason,
            settings=self.settings,
            draws=tuple(answer.draws),
            beam_score=answer.score,
            tokenized=subject.tokenized[row] if subject.tokenized else partial(Tokenized, text=""),
            seconds=tuple(node.step.seconds for node in chain),
        )


def _hypothesis(subject: Subject, settings: GenerationSettings, found: Hypothesis) -> _Answer:
    said = [id for id in found.ids if id not in settings.end]
    fresh = subject.sources is not None
    text = text_of(said, subject.decoder, settings.stop, fresh=fresh)
    ids, score = list(found.ids), found.score
    return _Answer(ids, [None] * len(ids), text, found.stop_reason, score)


class _Ends:
    """Where each sequence of ids was read to its end."""

    def __init__(self, recorder: Recorder) -> None:
        chains = [(leaf.chain(), source) for leaf, source in recorder.leaves]
        self.leaves = [
            (chain, source, [id for node in chain for id in node.ids]) for chain, source in chains
        ]

    def find(self, row: int, ids: Sequence[int]) -> tuple[list[Node], Node | None]:
        """The passes in which row `row` of the prompts read `ids`, and that of its source."""
        ids = list(ids)
        for chain, source, read in self.leaves:
            if chain[0].row == row and read[: len(ids)] == ids:
                length, nodes = 0, []
                for node in chain:
                    if length == len(ids):
                        break
                    nodes.append(node)
                    length += len(node.ids)
                return nodes, source
        raise AssertionError("every token was chosen from what was read")


def _tokens(
    decoder: Decoder, ids: Sequence[int], prompt: int, steps: Sequence[int], encodes: bool
) -> tuple[Token, ...]:
    data = [decoder.bytes_of(id) for id in ids]
    found = []
    for position, (id, own, label) in enumerate(zip(ids, data, labels(data), strict=True)):
        phase: Phase = "encode" if encodes else "prefill" if position < prompt else "decode"
        step = steps[position] if position < len(steps) else 0 if encodes else None
        found.append(Token(position, id, own, label, phase, step, position >= prompt))
    return tuple(found)
