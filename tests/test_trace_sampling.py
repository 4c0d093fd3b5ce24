"""The sampler and the tokenizer taken apart: the story told is what the sampler did."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lucidlm.generate.sampling import REASONS, History, Sampled, generator, sample
from lucidlm.generate.settings import SamplingSettings
from lucidlm.locale import LANGUAGES, text
from lucidlm.trace.address import parse
from lucidlm.trace.operations import SamplingStage, TokenizerStage, Worked
from lucidlm.trace.sites import catalogue

STAGES = ("logits", "penalised", "scaled", "kept", "probabilities", "cdf", "draw", "id")
AXES = {address: site.axes for address, site in catalogue(None).items()}


class Chosen:
    """A run over `prompt` whose logits are `rows`, one a chosen token."""

    def __init__(
        self,
        rows: Any,
        settings: SamplingSettings,
        prompt: tuple[int, ...] = (0, 1),
        forced: int | None = None,
        row: int = 0,
        chosen: tuple[int, ...] | None = None,  # a beam search's
    ) -> None:
        self.rows = np.asarray(rows, np.float32)
        self.prompt, self.all = prompt, list(prompt)
        self.record: list[Sampled] = []
        numbers = generator(settings.seed, row)
        for n, logits in enumerate(self.rows):
            history = History.of(prompt, self.all[len(prompt) :])
            first = forced if n == 0 else None
            self.record.append(sample(logits, settings, history, numbers, first))
            self.all.append(chosen[n] if chosen else self.record[-1].id)

    def read(self, address: str) -> Any:
        if address == "ids":
            return np.array(self.all[:-1])
        if address == "head.logits":
            unread = np.full((len(self.prompt) - 1, self.rows.shape[1]), np.nan, np.float32)
            return np.concatenate((unread, self.rows))
        stage = address.removeprefix("sampling.")
        if stage == "id":
            return np.array(self.all[len(self.prompt) :])
        rows = [getattr(sampled, stage) for sampled in self.record]
        return np.array([np.nan if row is None else row for row in rows])

    def sampled(self, position: int) -> Sampled:
        return self.record[position - len(self.prompt)]

    def start(self, address: str) -> int:
        return len(self.prompt) if address.startswith("sampling.") else 0

    def weight(self, address: str) -> Any:
        raise KeyError(address)

    def cell(self, stage: str, *at: int) -> Worked:
        values: Any = self
        return SamplingStage(stage, "head.logits").cell(values, at)


def agree(run: Chosen, stage: str) -> None:
    """A whole stage again is what was recorded."""
    values: Any = run
    computed = SamplingStage(stage, "head.logits").compute(values)
    recorded = run.read(f"sampling.{stage}").astype(np.float64)
    assert computed.value.shape == recorded.shape
    if computed.magnitude is None:
        np.testing.assert_array_equal(computed.value, recorded)
        return
    least = float(np.finfo(np.float32).tiny)
    tolerance = 64 * np.maximum(np.finfo(np.float32).eps * computed.magnitude, least)
    with np.errstate(invalid="ignore"):
        error = np.where(computed.value == recorded, 0, np.abs(computed.value - recorded))
    assert (error <= tolerance).all(), stage


def ran(worked: Worked) -> float:
    names: dict[str, Any] = {"np": np}
    names |= {name: np.asarray(array) for name, array in worked.arrays.items()}
    exec(worked.program, names)
    return float(names["value"])


def check_cell(run: Chosen, stage: str, *at: int) -> Worked:
    """One cell: total, program, terms, addresses and words."""
    worked = run.cell(stage, *at)
    recorded = float(run.read(f"sampling.{stage}")[(at[0] - len(run.prompt), *at[1:])])
    assert worked.total == pytest.approx(recorded, rel=1e-5, abs=1e-6, nan_ok=True)
    assert ran(worked) == pytest.approx(worked.total, rel=1e-12, nan_ok=True)
    for i in range(len(worked.terms.values)):
        for address, factor in zip(worked.terms.addresses(i), worked.terms.factors, strict=True):
            if address and stage != "probabilities":
                assert value_at(run, address) == factor[i]
    for name, value, address in worked.steps:
        if address and name in {"scaled", "max", "draw", "before", "cdf", "highest", "runner_up"}:
            assert value_at(run, address) == value
    if worked.note is not None:
        key, found = worked.note
        assert all(text(key, lang, **found) for lang in LANGUAGES)
    return worked


def value_at(run: Chosen, address: str) -> float:
    found = parse(address)
    axes = AXES.get(found.site, ("position", "word"))
    values = run.read(found.site)
    return float(values[found.index(axes, values.shape, run.start(found.site))])


def rows(words: int) -> st.SearchStrategy[Any]:
    logit = st.floats(-20, 20, width=32) | st.integers(-3, 3).map(float) | st.just(-np.inf)
    row = st.lists(logit, min_size=words, max_size=words)
    return st.lists(row.filter(lambda found: max(found) > -np.inf), min_size=1, max_size=3)


def ids(words: int) -> st.SearchStrategy[int]:
    return st.integers(0, words - 1)


@st.composite
def runs(draw: st.DrawFn) -> Chosen:
    """Any logits, any settings that leave a token to choose."""
    words = draw(st.integers(4, 12))
    banned = draw(st.frozensets(ids(words), max_size=2))
    logits = draw(rows(words))
    for row in logits:
        if all(row[id] == -np.inf for id in range(words) if id not in banned):
            banned = frozenset()
    chosen = SamplingSettings(
        temperature=draw(st.sampled_from([0.0, 0.3, 1.0, 1.7])),
        top_k=draw(st.integers(0, words + 2)),
        top_p=draw(st.sampled_from([1.0, 0.95, 0.6, 0.1])),
        min_p=draw(st.sampled_from([0.0, 0.0, 0.1, 0.5])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3, 0.7])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.4, -0.4])),
        presence_penalty=draw(st.sampled_from([0.0, 0.9])),
        logit_bias=draw(st.dictionaries(ids(words), st.sampled_from([-2.0, 3.5]), max_size=2)),
        suppressed=banned,
        seed=draw(st.integers(0, 99)),
    )
    forced = draw(st.none() | ids(words))
    return Chosen(logits, chosen, forced=forced, row=draw(st.integers(0, 3)))


QUICK = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@QUICK
@given(runs())
def test_every_stage_follows_from_the_one_before_it(run: Chosen) -> None:
    for stage in STAGES:
        agree(run, stage)


@QUICK
@given(runs())
def test_the_story_of_a_candidate_is_the_samplers(run: Chosen) -> None:
    position = len(run.prompt) + len(run.record) - 1
    sampled = run.sampled(position)
    for word in range(len(sampled.logits)):
        for stage in STAGES[:-2]:
            worked = check_cell(run, stage, position, word)
            if stage != "kept":
                continue
            reason = sampled.cut_by(word)
            assert worked.total == (reason is None)
            assert worked.terms.values.sum() == worked.total
            assert worked.note is not None
            key, found = worked.note
            if reason is not None:
                assert key == f"explain.cut_{reason}"
            else:
                assert key in {"explain.kept", "explain.kept_greedy", "explain.forced"}
            if reason == "top_k":
                assert int(str(found["rank"])) > sampled.settings.top_k
            if reason == "top_p":
                assert float(str(found["mass"])) >= sampled.settings.top_p - 1e-6
            if reason == "min_p":
                assert float(str(found["ratio"])) < sampled.settings.min_p
            if key == "explain.kept":
                assert float(str(found["mass"])) < sampled.settings.top_p + 1e-6
                assert float(str(found["ratio"])) >= sampled.settings.min_p * (1 - 1e-6)
    for stage in ("draw", "id"):
        check_cell(run, stage, position)


LOGITS = [2.0, 1.0, -1.0, 0.5, -3.0]


def note(run: Chosen, stage: str, *at: int) -> tuple[str, str]:
    worked = check_cell(run, stage, *at)
    assert worked.note is not None
    return worked.note[0].removeprefix("explain."), text(worked.note[0], "en", **worked.note[1])


def test_each_penalty_is_told_apart() -> None:
    def of(word: int, **kinds: Any) -> tuple[str, str]:
        return note(Chosen([LOGITS, LOGITS], SamplingSettings(**kinds)), "penalised", 3, word)

    assert of(3, repetition_penalty=2.0)[0] == "penalty_none"
    assert of(1, repetition_penalty=2.0)[0] == "penalty_repetition"
    assert "multiplies its logit 1 by 0.5" in of(1, repetition_penalty=2.0)[1]
    kind, words = of(0, frequency_penalty=0.25, presence_penalty=0.5)  # 0 was generated once
    assert kind == "penalty_frequency" and "lowers its logit 2 by 0.75" in words
    assert of(2, logit_bias={2: 1.5}) == (
        "penalty_bias",
        "The logit bias in the settings adds 1.5 to its logit -1.",
    )
    assert of(0, repetition_penalty=2.0, presence_penalty=0.5)[0] == "penalty_several"
    assert of(4, suppressed=frozenset({4}))[0] == "cut_suppressed"
    run = Chosen([LOGITS], SamplingSettings(), forced=3)
    assert note(run, "penalised", 2, 3)[0] == "forced"
    assert note(run, "penalised", 2, 1) == (
        "cut_forced",
        "Out: only token 3 is allowed at this place.",
    )
    assert note(run, "id", 2)[0] == "forced"


def test_a_logit_comes_from_the_position_before() -> None:
    run = Chosen([LOGITS, LOGITS], SamplingSettings())
    worked = check_cell(run, "logits", 3, 2)
    assert worked.terms.addresses(0)[0] == "head.logits[position=2, word=2]"
    values: Any = run
    alone = SamplingStage("logits", None)
    assert alone.cell(values, (3, 2)).terms.addresses(0)[0] == ""
    np.testing.assert_array_equal(alone.compute(values).value, [LOGITS, LOGITS])


def test_where_the_random_number_fell() -> None:
    run = Chosen([LOGITS] * 4, SamplingSettings(temperature=1.0, seed=7), row=2)
    kind, words = note(run, "draw", 5)
    assert kind == "draw_seed"
    assert words.startswith("Random number 4 of seed 7, row 2 of the batch: 0.")
    steps = {name: value for name, value, _ in check_cell(run, "id", 5).steps}
    assert steps["before"] <= steps["draw"] < steps["cdf"]
    assert note(run, "id", 5)[0] == "drawn"
    assert note(Chosen([LOGITS], SamplingSettings(temperature=1.0)), "draw", 2)[0] == "draw"


def test_the_highest_and_what_a_beam_search_liked_better() -> None:
    greedy = Chosen([LOGITS], SamplingSettings())
    assert note(greedy, "id", 2) == (
        "greedy",
        "Token 0 has the highest value; the next, token 1, is 1 lower.",
    )
    assert note(greedy, "draw", 2)[0] == "no_draw"
    beam = Chosen([LOGITS, LOGITS], SamplingSettings(), chosen=(3, 0))
    assert note(beam, "id", 2)[0] == "beam"
    assert note(beam, "id", 3)[0] == "greedy"
    agree(beam, "id")
    agree(beam, "draw")


@pytest.mark.parametrize("stage", STAGES)
def test_a_wrong_stage_is_noticed(stage: str) -> None:
    kinds = SamplingSettings(temperature=0.8, top_p=0.9, seed=3, repetition_penalty=1.2)
    run = Chosen([LOGITS, LOGITS], kinds)
    read = run.read

    def wrong(address: str) -> Any:
        found = read(address)
        if address != f"sampling.{stage}":
            return found
        found = found.astype(np.float64)
        found[(0,) * found.ndim] += 0.001 if stage not in ("kept", "id") else -1
        return found

    run.read = wrong  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        agree(run, stage)


def test_every_reason_has_a_sentence() -> None:
    for reason in REASONS[1:]:
        found = {"word": 1, "forced": 2, "rank": 3, "mass": 0.5, "ratio": 0.1}
        found |= {"top_k": 1, "top_p": 0.5, "min_p": 0.2}
        assert all(text(f"explain.cut_{reason}", lang, **found) for lang in LANGUAGES)


class Cut:
    """你 in two tokens behind a start token, and one that was generated."""

    stages: ClassVar[dict[str, Any]] = {
        "text": "你!",
        "pieces": (None, "ä½", "ł!", None),
        "bytes": (None, b"\xe4\xbd", b"\xa0!", None),
        "ids": (None, 7, 9, None),
        "spans": (None, (0, 1), (0, 2), None),
    }

    def read(self, address: str) -> Any:
        return self.stages[address.removeprefix("tokenizer.")]

    weight = sampled = start = read


def test_a_token_is_its_bytes() -> None:
    values: Any = Cut()
    for stage in ("ids", "pieces", "bytes", "spans"):
        worked = TokenizerStage(stage).cell(values, (1,))
        assert (worked.total, ran(worked)) == (7, 7)
        assert worked.note is not None
        found = text(worked.note[0], "en", **worked.note[1])
        assert found == (
            "Token id 7, “你 1-2/3 (E4 BD)”: bytes E4 BD, from characters 0 to 1 of the text, “你”."
        )
        for position in (0, 3, 8):
            nothing = TokenizerStage(stage).cell(values, (position,))
            assert np.isnan(nothing.total) and nothing.terms.values.size == 0
            assert nothing.note == ("explain.no_token", {"position": position})
    assert TokenizerStage("text").cell(values, ()).note is None
    with pytest.raises(TypeError, match="text"):
        TokenizerStage("pieces").compute(values)
