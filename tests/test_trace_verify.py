"""Verification: whole runs are found right, and one wrong number is found where it stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from captured import capture
from engines import ToyEngine, letters
from golden import CASES, MORE, VOCAB, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from lucidlm.engine import ForwardContext
from lucidlm.errors import UnknownName
from lucidlm.generate.settings import GenerationSettings, SamplingSettings
from lucidlm.trace.edits import Add, Scale, Zero
from lucidlm.trace.explain import explain
from lucidlm.trace.record import Recording, Subject, record
from lucidlm.trace.rounding import epsilon, rounded
from lucidlm.trace.rows import LOOKS
from lucidlm.trace.run import Header, Run, Token
from lucidlm.trace.sites import catalogue
from lucidlm.trace.tokenized import Tokenized
from lucidlm.trace.trace import Trace
from lucidlm.trace.verify import verify

ALL = [*CASES, *MORE]
PLAIN = ("llama", "smollm")
SAMPLED = SamplingSettings(
    temperature=0.8, top_k=20, top_p=0.9, min_p=0.01, repetition_penalty=1.2, seed=3
)
PARTLY = ("*.output", "*.pattern", "*.query", "*.scale", "*.added", "*embedding.sum")


def run(
    case: tuple[str, str],
    dtype: str = "float32",
    recording: Recording | None = None,
    **options: Any,
) -> Trace:
    """One golden model reading its input, and going on for a few words where it can."""
    pair = golden(*case)
    config = pair.checkpoint.config
    subject = Subject(
        name="tiny",
        engine=pair.engine(dtype),
        config=config,
        decoder=letters(VOCAB),
        prompts=[pair.ids[0].tolist()],
        sources=None if pair.source is None else [pair.source[0].tolist()],
    )
    how = GenerationSettings(**{"max_new_tokens": 3, **options})
    found = record(subject, None if config.kind == "encoder" else how, recording or Recording())
    return found[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ALL, ids=" ".join)
def test_every_number_of_every_model_follows(case: tuple[str, str], dtype: str) -> None:
    trace = run(case, dtype, sampling=SAMPLED)
    found = verify(trace)
    assert not [check for check in found.by_site if not check.ok]
    computed = [s for s in trace.catalogue.values() if not s.derived and s.part != "tokenizer"]
    assert [check.address for check in found.by_site] == [site.address for site in computed]
    sources = trace.source_length
    for check, site in zip(found.by_site, computed, strict=True):
        length = len(trace.chosen) if site.part == "sampling" else trace.length
        assert check.values == np.prod(site.shape(length, sources)), check.address
    assert found.failed == found.edited == 0
    assert found.replay_drift == max(trace.drift.values()) < 100 * epsilon(dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("keep", [("*",), PARTLY], ids=["all", "some"])
@pytest.mark.parametrize("case", [("bart", "bart"), ("gemma", "multi-head"), ("t5", "v1.1")])
def test_what_was_seen_agrees_with_what_is_recomputed(
    case: tuple[str, str], keep: tuple[str, ...], dtype: str
) -> None:
    """Prompts read in pieces, values kept from the run beside others from a replay."""
    trace = run(case, dtype, Recording(keep=keep), prefill_chunk=5)
    found = verify(trace)
    assert not [check for check in found.by_site if not check.ok]
    seen = {trace.is_seen(check.address) for check in found.by_site}
    assert seen == {True, False}  # the head is recomputed: a run needs it at few positions


def test_beams_verify() -> None:
    trace = run(("bart", "marian"), beams=3)
    assert len(trace.hypotheses) == 3
    for k in range(3):
        assert verify(trace.hypothesis(k)).failed == 0


def test_the_answer_in_json() -> None:
    found = verify(run(PLAIN))
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(said) == [
        *("model", "positions", "sites", "values"),
        *("max_relative", "worst_address", "failed"),
    ]
    assert said["model"] == "tiny"
    assert said["positions"] == 19
    assert said["sites"] == len(found.by_site)
    assert 0 < said["max_relative"] < 16 * epsilon("float32")
    worst = next(c for c in found.by_site if c.worst_address == said["worst_address"])
    assert worst.max_relative == said["max_relative"]


def test_edits_are_no_faults() -> None:
    edits = (
        Zero("layers.1.attention.mixed[head=2]"),
        Scale("layers.0.residual_out[position=3]", 2.0),
        Add("layers.0.feedforward.product[hidden=7]", 0.5),
        Scale("layers.0.residual_in", 1.5),
    )
    trace = run(PLAIN, recording=Recording(edits=edits))
    found = verify(trace)
    assert found.failed == 0
    config = golden(*PLAIN).checkpoint.config
    positions, head_dim = trace.length, config.stacks["decoder"].attention.head_dim
    edited = {check.address: check.edited for check in found.by_site if check.edited}
    assert edited == {
        "layers.0.residual_in": positions * config.dim,
        "layers.0.feedforward.product": positions,
        "layers.0.residual_out": config.dim,
        "layers.1.attention.mixed": positions * head_dim,
    }
    assert found.edited == sum(edited.values())
    whole = next(c for c in found.by_site if c.address == "layers.0.residual_in")
    assert (whole.values, whole.worst_address, whole.ok) == (0, "", True)
    # were they not known to be edits, they would be faults
    kept = run(PLAIN, recording=Recording(edits=edits, keep=("*",)))
    failed = [c.address for c in verify(replace(kept, edits=())).by_site if not c.ok]
    assert set(edited) <= set(failed)


def test_only_named_sites() -> None:
    trace = run(PLAIN)
    names = ["layers.1.attention.pattern", "blocks.0.hook_resid_pre", "layers.1.attention.scores"]
    found = verify(trace, names)
    assert [check.address for check in found.by_site] == [
        "layers.0.residual_in",
        "layers.1.attention.scores",
        "layers.1.attention.pattern",
    ]
    with pytest.raises(UnknownName):
        verify(trace, ["layers.1.attention.patern"])


def test_without_the_model_what_was_kept_is_verified() -> None:
    trace = run(PLAIN, recording=Recording(keep=("*.scores", "*.pattern", "*.query")))
    found = verify(replace(trace, engine=None))
    assert found.failed == 0
    addresses = {check.address for check in found.by_site}
    assert {"layers.0.attention.pattern", "sampling.id"} <= addresses
    assert not {"layers.0.attention.query", "layers.0.attention.scores"} & addresses


def test_exactness_ends_where_a_replay_begins() -> None:
    checks = {c.address: c for c in verify(run(PLAIN)).by_site}
    both = checks["layers.1.attention_norm.added"]  # all of it from one replay
    assert both.exact
    assert (both.tolerance, both.max_absolute) == (0.0, 0.0)
    copied = checks["layers.1.residual_in"]  # seen, of a recomputed one
    assert not copied.exact
    assert copied.tolerance > checks["layers.1.attention.query"].tolerance


# -- one wrong number ------------------------------------------------------------------------------


@dataclass
class Kept:
    """A backing that has every value of a capture."""

    values: Mapping[str, Any]

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset(self.values)

    def read(self, address: str) -> Any:
        return self.values[address]

    def logits(self, position: int) -> Any:
        return self.values["head.logits"][position]


def test_a_model_that_is_no_transformer_has_its_sampler_verified() -> None:
    engine = ToyEngine()
    subject = Subject(name="toy", engine=engine, config=None, decoder=letters(12), prompts=[[1]])
    trace = record(subject, GenerationSettings(max_new_tokens=4, sampling=SAMPLED), Recording())[0]
    logits = engine.step([trace.ids[:-1]], ForwardContext(every_position=True))[0]
    found = verify(replace(trace, backing=Kept({"head.logits": logits})))
    assert (found.sites, found.failed) == (8, 0)
    assert {check.address.partition(".")[0] for check in found.by_site} == {"sampling"}


@cache
def right(case: tuple[str, str]) -> Run:
    """A run all of whose values were seen, and that are right."""
    pair = golden(*case)
    config, engine = pair.checkpoint.config, pair.engine()
    ids = pair.ids[0].tolist()
    source = [] if pair.source is None else pair.source[0].tolist()
    captured = capture(engine, config, ids, source or None)

    def tokens(row: list[int]) -> tuple[Token, ...]:
        return tuple(Token(p, id, b"", "", "prefill", 0, False) for p, id in enumerate(row))

    header = Header(
        name="tiny",
        config=config,
        dtype="float32",
        tokens=tokens(ids),
        sources=tokens(source),
        prompt_length=len(ids),
        length=len(ids),
        source_length=len(source),
        tokenized=lambda: Tokenized(text=""),
    )
    sites = catalogue(config)
    backing = Kept({at: value for at, value in captured.values.items() if at in sites})
    return Run(header=header, backing=backing, engine=engine)


def corrupted(trace: Run, address: str, index: tuple[int, ...], value: float) -> Run:
    array = trace.read(address).copy()
    array[index] = value
    assert isinstance(trace.backing, Kept)
    return replace(trace, backing=Kept({**trace.backing.values, address: array}))


def spelled(trace: Run, address: str, index: tuple[int, ...]) -> str:
    axes = trace.catalogue[address].axes
    return f"{address}[{', '.join(f'{a}={i}' for a, i in zip(axes, index, strict=True))}]"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_wrong_number_is_found_where_it_stands(data: st.DataObject) -> None:
    """Off by a thousandth of its row's largest."""
    trace = right(data.draw(st.sampled_from(ALL)))
    address = data.draw(st.sampled_from(sorted(trace.backing.addresses)))
    array = trace.read(address)
    index = tuple(data.draw(st.integers(0, size - 1)) for size in array.shape)
    row = array[index[:-1]]
    scale = np.abs(row[np.isfinite(row)]).max(initial=0.0) or 1.0
    old = array[index] if np.isfinite(array[index]) else 0.0
    wrong = corrupted(trace, address, index, old + 1e-3 * scale)
    assert verify(trace, [address]).failed == 0
    found = verify(wrong, [address])
    assert found.failed == 1
    assert found.worst_address == spelled(trace, address, index)
    assert found.by_site[0].max_absolute == pytest.approx(
        1e-3 * scale if np.isfinite(array[index]) else np.inf, rel=0.01
    )


@pytest.mark.parametrize("case", [PLAIN, ("bart", "marian"), ("bert", "both")], ids=" ".join)
def test_a_wrong_number_is_blamed_on_its_site_and_those_that_read_it(
    case: tuple[str, str],
) -> None:
    trace, numbers = right(case), np.random.default_rng(0)
    assert verify(trace).failed == 0
    for address in sorted(trace.backing.addresses)[::7]:
        array = trace.read(address)
        index = tuple(int(numbers.integers(size)) for size in array.shape)
        found = verify(corrupted(trace, address, index, 1e3))
        failed = [check for check in found.by_site if not check.ok]
        assert failed[0].worst_address == spelled(trace, address, index)
        for check in failed[1:]:
            assert address in trace.catalogue[check.address].operation.inputs


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_the_worst(value: float) -> None:
    trace = right(PLAIN)
    found = verify(corrupted(trace, "layers.1.feedforward.up", (4, 9), value))
    assert found.worst_address == "layers.1.feedforward.up[position=4, hidden=9]"
    assert found.max_relative == np.inf
    said = found.to_json()
    assert (said["max_relative"], said["failed"]) == (None, found.failed)
    json.dumps(said, allow_nan=False)


def test_a_wrong_score_is_found_in_a_row_that_hides_others() -> None:
    """Also where the score was seen and the products are recomputed."""
    trace = run(PLAIN, recording=Recording(keep=("*.scores",)))
    address, index = "layers.0.attention.scores", (1, 8, 3)
    values = {at: trace.read(at) for at in trace.backing.addresses}
    values[address] = values[address].copy()
    assert np.isinf(values[address][1, 8, 9])
    values[address][index] += 1.0
    wrong = replace(trace, backing=Kept(values))
    found = verify(wrong, [address])
    assert (found.failed, found.worst_address) == (1, spelled(trace, address, index))
    assert not explain(wrong, found.worst_address).agrees
    assert explain(wrong, spelled(trace, address, (1, 8, 4))).agrees


def test_a_product_that_no_pass_computed_is_not_missed() -> None:
    trace = right(PLAIN)
    whole = verify(trace, ["layers.0.attention.products"])
    ahead = corrupted(trace, "layers.0.attention.products", (1, 3, 8), np.nan)
    found = verify(ahead, ["layers.0.attention.products", "layers.0.attention.scores"])
    assert found.failed == 0
    assert found.by_site[0].values == whole.values - 1
    behind = corrupted(trace, "layers.0.attention.products", (1, 8, 3), np.nan)
    found = verify(behind, ["layers.0.attention.products"])
    assert found.worst_address == "layers.0.attention.products[head=1, query=8, key=3]"
    assert found.failed == 1


def test_a_run_in_pieces_leaves_out_what_it_never_computed() -> None:
    trace = run(PLAIN, recording=Recording(keep=("*.products",)), prefill_chunk=5)
    found = verify(trace, ["layers.0.attention.products"])
    assert trace.catalogue[found.by_site[0].address].axes == LOOKS
    never = np.isnan(trace.read("layers.0.attention.products")).sum()
    assert never > 0
    assert found.values == trace.read("layers.0.attention.products").size - never
    assert found.failed == 0


def test_another_word_than_the_chosen_one_is_noticed() -> None:
    trace = run(PLAIN, sampling=SAMPLED)
    tokens, at = list(trace.tokens), trace.prompt_length + 1
    # the least likely word there
    other = int(np.argmin(trace.sampled(at).probabilities))
    tokens[at] = replace(tokens[at], id=other)
    wrong = replace(trace, header=replace(trace.header, tokens=tuple(tokens)))
    found = verify(wrong, ["sampling.id", "sampling.draw"])
    assert found.failed == 1
    assert found.worst_address == f"sampling.id[position={at}]"


def test_the_distance_between_numbers() -> None:
    for dtype in ("float16", "float32", "float64", "bfloat16"):
        assert epsilon(dtype) == torch.finfo(getattr(torch, dtype)).eps


@given(st.lists(st.floats(width=32), min_size=1))
def test_rounding_to_bfloat16_is_theirs(numbers: list[float]) -> None:
    ours = rounded(np.array(numbers), np.dtype(np.float32), "bfloat16")
    theirs = torch.tensor(numbers, dtype=torch.float32).bfloat16().double().numpy()
    np.testing.assert_array_equal(ours, theirs)
