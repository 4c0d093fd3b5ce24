"""A trace is what happened: the same run, the same values live and recomputed, in every phase."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import CASES, golden
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import DECODER, apart, subject, trace, traces
from shapes import WRITERS, marked

from lucidlm.classical import dog
from lucidlm.engine import ForwardContext
from lucidlm.errors import TraceError, UnknownName
from lucidlm.generate import GenerationSettings, SamplingSettings, beam_search, generate
from lucidlm.trace.edits import Zero
from lucidlm.trace.record import Recording, Subject, record
from lucidlm.trace.sites import catalogue
from lucidlm.trace.trace import Trace

ONE = [
    ("llama", "llama 3"),
    ("gemma", "local and global"),
    ("t5", CASES[[f for f, _ in CASES].index("t5")][1]),
]


def computed(run: Trace) -> list[str]:
    outside = {"tokenizer", "sampling"}
    return [a for a, s in run.catalogue.items() if not s.derived and s.part not in outside]


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_the_catalogue_is_what_the_taps_show(family: str, shape: str) -> None:
    case = golden(family, shape)
    sites = catalogue(case.checkpoint.config)
    outside = {"tokenizer", "sampling"}
    named = {a for a, s in sites.items() if not s.derived and s.part not in outside}
    assert named == set(case.engine().sites)


@pytest.mark.parametrize(("family", "shape"), marked())
def test_live_and_recomputed_values_are_the_same(family: str, shape: str) -> None:
    case = golden(family, shape)
    on = subject(case)
    live, little = trace(case, on=on, keep=["*"]), trace(case, on=on)
    for address in computed(live):
        site = live.site(address)
        assert live.is_seen(address) or site.part == "head", address
        values = live.read(address)
        assert values.shape == site.shape(live.length, live.source_length), address
        assert apart(little.read(address), values) < 2e-5, address
    assert all(gap < 1e-5 for gap in little.drift.values())
    assert not little.is_seen(next(a for a in computed(little) if a.endswith("attention.value")))


@pytest.mark.parametrize(("family", "shape"), marked(WRITERS))
def test_tracing_changes_nothing_bit_for_bit(family: str, shape: str) -> None:
    """Ids and logits of a run nobody watched, of one that was recorded, of one with everything
    kept, and of one with an empty list of edits.
    """
    case = golden(family, shape)
    on, wish = subject(case), GenerationSettings(max_new_tokens=4)
    steps = list(generate(on.engine, on.prompts, wish, decoder=DECODER, sources=on.sources))
    for options in ({}, {"keep": ["*"]}, {"edits": []}, {"keep": ["*"], "spill": True}):
        run = trace(case, on=on, **options)
        assert run.ids[run.prompt_length :] == tuple(step.id for step in steps)
        for step in steps:
            assert (run.sampled(step.position).logits == step.sampled.logits).all()


@pytest.mark.parametrize(("family", "shape"), [case for case in CASES if case not in WRITERS])
def test_tracing_a_reader_changes_nothing_bit_for_bit(family: str, shape: str) -> None:
    case = golden(family, shape)
    on = subject(case)
    has_head = case.checkpoint.config.head is not None
    read = on.engine.step if has_head else on.engine.encode
    plain = read(on.prompts, ForwardContext(every_position=True))[0]
    for options in ({}, {"keep": ["*"]}, {"edits": []}, {"keep": ["*"], "spill": True}):
        run = trace(case, on=on, **options)
        last = "head.logits" if has_head else "layers.1.residual_out"
        assert run.is_seen(last) and np.array_equal(run.read(last), plain)


@pytest.mark.parametrize(("family", "shape"), marked())
def test_a_batch_is_its_rows(family: str, shape: str) -> None:
    case = golden(family, shape)
    both = traces(case, rows=(0, 1), lengths=(9, 6), keep=["*"])
    for row, length in ((0, 9), (1, 6)):
        alone = trace(case, rows=(row,), lengths=(length,), keep=["*"])
        assert both[row].ids == alone.ids
        for address in computed(alone):
            assert apart(both[row].read(address), alone.read(address)) < 2e-5, address


@pytest.mark.parametrize(("family", "shape"), marked(WRITERS))
def test_a_prompt_read_in_pieces(family: str, shape: str) -> None:
    case = golden(family, shape)
    whole, cut = (trace(case, keep=["*"], prefill_chunk=n) for n in (None, 3))
    assert cut.ids == whole.ids
    assert [token.step for token in cut.tokens][:9] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {token.phase for token in cut.tokens[:9]} == {"prefill"}
    assert {token.phase for token in cut.tokens[9:]} == {"decode"}
    for address in computed(whole):
        assert apart(cut.read(address), whole.read(address)) < 2e-5, address


@pytest.mark.parametrize(("family", "shape"), marked(WRITERS))
def test_a_beam_search_is_a_tree(family: str, shape: str) -> None:
    case = golden(family, shape)
    on, wish = subject(case), GenerationSettings(max_new_tokens=5, beams=3)
    found = beam_search(on.engine, on.prompts, wish, decoder=DECODER, sources=on.sources)[0]
    run = trace(case, on=on, new=5, beams=3, keep=["*"])
    assert [h.ids[h.prompt_length :] for h in run.hypotheses] == [h.ids for h in found]
    for k, hypothesis in enumerate(found):
        branch = run.hypothesis(k)
        assert branch.header.beam_score == hypothesis.score
        alone = subject(case)
        ids = [[*alone.prompts[0], *hypothesis.ids[:-1]]]
        wish = GenerationSettings(max_new_tokens=1)
        again = record(
            subject(case).__class__(**{**vars(alone), "prompts": ids}), wish, Recording(keep=["*"])
        )[0]
        for address in computed(again):
            if branch.site(address).part != "head":
                assert apart(branch.read(address), again.read(address)) < 2e-5, address
    with pytest.raises(TraceError, match="There is no hypothesis 7"):
        run.hypothesis(7)


@pytest.mark.parametrize(("family", "shape"), ONE)
def test_rows_that_end_apart_keep_their_own_values(family: str, shape: str) -> None:
    """One row stops at its second token and leaves the batch."""
    case = golden(family, shape)
    free = traces(case, rows=(0, 1), lengths=(9, 6), new=6)
    end = frozenset({free[0].ids[free[0].prompt_length + 1]})
    both = traces(case, rows=(0, 1), lengths=(9, 6), new=6, end=end, keep=["*"])
    assert both[0].stop_reason == "end" and len(both[0].chosen) < 6
    for run, row, length in zip(both, (0, 1), (9, 6), strict=True):
        alone = trace(case, rows=(row,), lengths=(length,), new=6, end=end, keep=["*"])
        assert run.ids == alone.ids and run.stop_reason == alone.stop_reason
        for address in computed(alone):
            assert apart(run.read(address), alone.read(address)) < 2e-5, address


@settings(max_examples=15)
@given(
    st.integers(0, 2**20),
    st.floats(0.3, 2.0),
    st.integers(0, 20),
    st.floats(0.3, 1.0),
    st.floats(0.5, 2.0),
)
def test_the_sampler_s_record_is_the_run_s(
    seed: int, temperature: float, top_k: int, top_p: float, penalty: float
) -> None:
    case = golden(*ONE[0])
    on = subject(case)
    sampling = SamplingSettings(
        temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=penalty, seed=seed
    )
    wish = GenerationSettings(max_new_tokens=5, sampling=sampling)
    run = trace(case, on=on, new=5, sampling=sampling)
    for step in generate(on.engine, on.prompts, wish, decoder=DECODER):
        again = run.sampled(step.position)
        for stage in ("logits", "penalised", "scaled", "kept", "probabilities", "cdf"):
            assert (getattr(again, stage) == getattr(step.sampled, stage)).all(), stage
        assert (again.draw, again.id) == (step.sampled.draw, step.id)
    assert run["sampling.id"].tolist() == list(run.ids[run.prompt_length :])


@pytest.mark.parametrize(("family", "shape"), marked())
def test_save_then_open_is_the_same(family: str, shape: str, tmp_path: Path) -> None:
    case = golden(family, shape)
    on = subject(case)
    run = trace(case, on=on, keep=["*.pattern", "*.residual_*"], edits=[])
    path = tmp_path / "run.safetensors"
    run.save(path)
    for engine in (None, on.engine):
        opened = Trace.open(path, engine, DECODER)
        assert opened.header.tokens == run.header.tokens
        assert opened.header.settings == run.header.settings
        assert opened.header.config == run.header.config
        for address in run.backing.addresses:
            assert np.array_equal(opened.read(address), run.read(address), equal_nan=True)
        for position in run.chosen:
            assert (
                opened.sampled(position).probabilities == run.sampled(position).probabilities
            ).all()
        unkept = next(a for a in computed(run) if a.endswith("attention.value"))
        if engine is None:
            with pytest.raises(TraceError, match="opened without its model"):
                opened.read(unkept)
        else:
            assert apart(opened.read(unkept), run.read(unkept)) == 0


def test_a_trace_of_other_weights_is_not_replayed(tmp_path: Path) -> None:
    case, other = golden(*ONE[0]), golden("llama", "llama 2")
    trace(case).save(tmp_path / "run.safetensors")
    with pytest.raises(TraceError, match="with other weights"):
        Trace.open(tmp_path / "run.safetensors", other.engine())


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_an_error_of_ours(data: st.DataObject, tmp_path_factory: Any) -> None:
    whole = saved(tmp_path_factory)
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        broken = whole[:at]
    else:
        header = min(len(whole) - 1, 6000)  # where the structure is
        at = data.draw(st.integers(0, header))
        broken = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    path = tmp_path_factory.mktemp("broken") / "run.safetensors"
    path.write_bytes(broken)
    try:
        opened = Trace.open(path)
        for address in opened.backing.addresses:
            opened.read(address)
    except TraceError:
        pass


WHOLE: dict[str, bytes] = {}


def saved(folder: Any) -> bytes:
    if "run" not in WHOLE:
        path = folder.mktemp("whole") / "run.safetensors"
        trace(golden(*ONE[0]), new=2).save(path)
        WHOLE["run"] = path.read_bytes()
    return WHOLE["run"]


def test_two_runs_in_two_threads_do_not_mix() -> None:
    case = golden(*ONE[0])
    on = [subject(case, rows=(row,)) for row in (0, 1)]
    alone = [trace(case, on=one, new=8, keep=["*"]) for one in on]
    found: dict[int, list[Trace]] = {0: [], 1: []}

    def work(row: int) -> None:
        for _ in range(4):
            found[row].append(trace(case, on=on[row], new=8, keep=["*"]))

    threads = [threading.Thread(target=work, args=(row,)) for row in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in (0, 1):
        for run in found[row]:
            assert run.ids == alone[row].ids
            for address in computed(run):
                same = np.array_equal(run.read(address), alone[row].read(address), equal_nan=True)
                assert same, address


def test_addresses_cut_and_names_are_helped() -> None:
    run = trace(golden(*ONE[0]), keep=["*.pattern"])
    pattern = run["layers.1.attention.pattern"]
    assert (run["layers.1.attention.pattern[head=2, query=-1]"] == pattern[2, -1]).all()
    assert (run["layers.1.attention.pattern[1, 3, 0:2]"] == pattern[1, 3, :2]).all()
    pattern[:] = 7  # a copy: what was recorded is still there
    assert run["layers.1.attention.pattern"].max() <= 1
    assert run.is_seen("layers.1.attention.pattern")
    for wrong, message in {
        "layers.1.attention.patern": "nearest ones: layers.1.attention.pattern",
        "layers.1.attention.pattern[heads=1]": "its axes are: head, query, key",
        "layers.1.attention.pattern[head=99]": "head runs from 0 to",
        "layers.1.attention.pattern[head=x]": "is not an address",
    }.items():
        with pytest.raises((TraceError, UnknownName), match=message):
            run[wrong]
    with pytest.raises(TraceError, match="chosen ones stand at 9 to 12"):
        run.sampled(3)
    with pytest.raises(UnknownName, match=r"no site called '\*\.patern'"):
        trace(golden(*ONE[0]), keep=["*.patern"])


def test_the_budget_is_checked_before_the_run() -> None:
    case = golden(*ONE[0])
    on = subject(case)
    with pytest.raises(TraceError, match="more than the budget of"):
        record(on, GenerationSettings(max_new_tokens=40), Recording(keep=["*"], budget="20KB"))
    with pytest.raises(TraceError, match="'lots' is no size"):
        record(on, GenerationSettings(), Recording(budget="lots"))


@pytest.mark.parametrize(("family", "shape"), marked())
def test_the_estimate_bounds_what_is_kept(family: str, shape: str) -> None:
    from lucidlm.trace import budget

    case = golden(family, shape)
    run = trace(case, keep=["*"], new=5)
    sites = [run.site(a) for a in computed(run)]
    most = budget.estimate(sites, [9], [run.source_length], 5 if run.chosen else 0, 4)
    held = sum(run.read(a).nbytes for a in computed(run) if run.site(a).part != "head")
    assert held <= most


def test_a_model_that_counts_has_its_choices_traced() -> None:
    model = dog.model(order=4)
    settings = GenerationSettings(max_new_tokens=3)
    ids = model.words.encode("我 刚才 跑步，我 现在")
    on = Subject(name="dog", engine=model, config=None, decoder=model.words, prompts=[ids])
    run = record(on, settings, Recording())[0]
    assert len(run.chosen) == 3 and run["sampling.logits"].shape == (3, model.vocab_size)
    assert run.verify().failed == 0
    with pytest.raises(TraceError, match="no sites to edit"):
        record(on, settings, Recording(edits=[Zero("layers.0.attention.mixed")]))


def test_parameters_and_ids_are_read_like_sites() -> None:
    case = golden(*ONE[0])
    run = trace(case)
    weight = run.weight("layers.1.attention.query.weight")
    assert (run["layers.1.attention.query.weight[out=3]"] == weight[3]).all()
    theirs = "model.layers.1.self_attn.q_proj.weight"
    assert (run[theirs] == weight).all() and (run.weight(theirs) == weight).all()
    assert run["ids"].tolist() == list(run.ids[: run.length])
    with pytest.raises(UnknownName, match=r"layers\.1\.attention\.query\.weight"):
        run.weight("layers.1.attention.qeury.weight")
    assert run.is_seen("head.logits", run.prompt_length - 1)
    assert not run.is_seen("head.logits", 0)
