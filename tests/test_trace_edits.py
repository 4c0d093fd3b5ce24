"""Edits: the same as the same change made elsewhere, live and on replay; refused if they do not
fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden import CASES, difference, golden
from recorded import apart, subject, trace, traces
from shapes import marked

from lucidlm.errors import TraceError, UnknownName
from lucidlm.trace.diff import diff
from lucidlm.trace.edits import Add, Edit, Mean, Patch, Scale, Zero
from lucidlm.trace.trace import Trace

KINDS = [("gemma", "local and global"), ("bart", "marian")]
MORE_KINDS = [("llama", "llama 3"), ("t5", "v1.0")]
HEADS = {"llama": 8, "gpt2": 8}


def stack(run: Trace) -> str:
    return "decoder." if run.source_length else ""


def edits(run: Trace) -> list[Edit]:
    """One of each kind, on slices of several shapes."""
    at = f"{stack(run)}layers.1"
    assert run.config is not None
    dim = run.config.dim
    found: list[Edit] = [
        Zero(f"{at}.attention.mixed[head=1]"),
        Zero(f"{at}.attention.scores[head=0, key=1]"),
        Zero(f"{at}.attention.key[position=0]"),
        Scale(f"{at}.feedforward.output[position=2:4]", 3.0),
        Scale("head.logits[word=3:9]", 2.0),
        Add(f"{at}.residual_in[position=3]", np.linspace(-1, 1, dim)),
        Add(f"{at}.residual_out", 0.25),
        Add(f"{at}.attention.query[position=1, head=1, head_dim=0:2]", [1.0, -1.0]),
        Mean(f"{at}.attention.mixed[head=0]", run),
        Patch(f"{stack(run)}embedding.sum[position=2]", run),
    ]
    if run.source_length:
        found += [
            Zero("encoder.layers.0.attention.mixed[head=1]"),
            Scale(f"{at}.cross_attention.value[position=1]", 0.5),
            Zero(f"{at}.cross_attention.pattern[head=0]"),
        ]
    return found


def computed(run: Trace) -> list[str]:
    return sorted(run.backing.addresses)


@pytest.mark.parametrize(
    ("family", "shape"),
    [*KINDS, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE_KINDS)],
)
def test_edits_hold_live_on_replay_in_batches_and_with_a_cache(family: str, shape: str) -> None:
    case = golden(family, shape)
    on = subject(case)
    plain = trace(case, on=on, new=4)
    for edit in edits(plain):
        live = trace(case, on=on, new=4, edits=[edit], keep=["*"])
        again = trace(case, on=on, new=4, edits=[edit])
        both = traces(case, rows=(0, 1), lengths=(9, 6), new=4, edits=[edit], keep=["*"])[0]
        pieces = trace(case, on=on, new=4, edits=[edit], keep=["*"], prefill_chunk=2)
        for run in (again, both, pieces):
            assert run.ids == live.ids, edit.address
            for address in computed(live):
                gap = apart(run.read(address), live.read(address))
                assert gap < 5e-5, (edit.address, address, gap)
        assert live.edits[0].site.address == edit.address.partition("[")[0]
        if not isinstance(edit, Patch):  # its own run's values change nothing
            assert diff(plain, live).first is not None, edit.address


@pytest.mark.parametrize(("family", "shape"), marked())
def test_no_edit_changes_nothing(family: str, shape: str) -> None:
    """An empty list, a scale of 1, and a patch from the run itself: bit for bit the same."""
    case = golden(family, shape)
    on = subject(case)
    plain = trace(case, on=on, keep=["*"])
    site = next(a for a in plain.catalogue if a.endswith("layers.0.attention.mixed"))
    for none in ([], [Scale(site, 1.0)], [Patch(site, plain)]):
        run = trace(case, on=on, keep=["*"], edits=none)
        assert run.ids == plain.ids
        for address in computed(plain):
            same = np.array_equal(run.read(address), plain.read(address), equal_nan=True)
            assert same, address


@pytest.mark.parametrize(
    ("family", "shape", "module"),
    [
        ("llama", "llama 3", "model.layers.1.self_attn.o_proj"),
        ("gpt2", "plain", "transformer.h.1.attn.c_proj"),
        ("gemma", "local and global", "model.layers.1.self_attn.o_proj"),
        ("bart", "marian", "model.decoder.layers.1.self_attn.out_proj"),
    ],
)
def test_ablating_a_head_equals_a_hook_that_zeroes_its_slice(
    family: str, shape: str, module: str
) -> None:
    case = golden(family, shape)
    plain = trace(case, new=1)
    config = case.checkpoint.config
    assert config.decoder is not None
    size = config.decoder.attention.head_dim
    head = config.decoder.attention.heads - 1

    def silence(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        (x,) = inputs
        x = x.clone()
        x[..., head * size : (head + 1) * size] = 0
        return (x,)

    ids = torch.tensor([plain.ids[: plain.prompt_length]])
    source = None if case.source is None else torch.tensor([[t.id for t in plain.sources]])

    def theirs() -> torch.Tensor:
        inputs = (
            {"input_ids": ids}
            if source is None
            else {"input_ids": source, "decoder_input_ids": ids}
        )
        with torch.inference_mode():
            logits: torch.Tensor = case.theirs(**inputs).logits[0]
        return logits

    unedited = difference(torch.tensor(plain["head.logits"]), theirs())
    hook = case.theirs.get_submodule(module).register_forward_pre_hook(silence)
    try:
        expected = theirs()
    finally:
        hook.remove()
    site = f"{stack(plain)}layers.1.attention.mixed[head={head}]"
    run = trace(case, new=1, edits=[Zero(site)])
    assert difference(torch.tensor(run["head.logits"]), expected) <= max(2 * unedited, 2e-6)
    assert difference(torch.tensor(plain["head.logits"]), expected) > 1e-3


def test_an_edit_is_kept_in_the_trace_and_its_file(tmp_path: Any) -> None:
    case = golden("llama", "llama 3")
    on = subject(case)
    edit = Add("layers.1.residual_in[position=2:5]", np.ones((3, case.checkpoint.config.dim)))
    run = trace(case, on=on, edits=[edit])
    run.save(tmp_path / "run.safetensors")
    opened = Trace.open(tmp_path / "run.safetensors", on.engine)
    (again,) = opened.edits
    assert (again.kind, again.address) == ("add", edit.address)
    assert (again.array == run.edits[0].array).all()
    assert apart(opened["layers.1.attention.output"], run["layers.1.attention.output"]) == 0


def test_edits_that_do_not_fit_are_refused_before_the_run() -> None:
    case = golden("llama", "llama 3")
    plain = trace(case)
    dim = case.checkpoint.config.dim
    cases = [golden(family, shape) for family, shape in CASES if family in {"llama", "gpt2"}]
    other = trace(next(c for c in cases if c.checkpoint.config.dim != dim))
    wrong: dict[str, Edit] = {
        "nearest ones: layers.1.attention.mixed": Zero("layers.1.attention.mixd"),
        "cannot be edited": Zero("layers.1.attention.head_outputs[head=1]"),
        r"sampling\.logits cannot be edited": Zero("sampling.logits"),
        "its axes are: position, head, head_dim": Zero("layers.1.attention.mixed[key=1]"),
        "head runs from 0 to": Zero("layers.1.attention.mixed[head=99]"),
        "counts from the end": Zero("layers.1.residual_in[position=-1]"),
        "made of finite numbers": Scale("layers.1.residual_in", float("nan")),
        "do not fit": Add("layers.1.residual_in[position=3]", np.ones(5)),
        "brings numbers of shape": Patch("layers.1.residual_in", other),
        "no mean over positions": Mean("layers.1.attention.pattern", plain),
    }
    for message, edit in wrong.items():
        with pytest.raises((TraceError, UnknownName), match=message):
            trace(case, edits=[edit])


def test_diff_names_where_two_runs_part() -> None:
    case = golden("llama", "llama 3")
    on = subject(case)
    plain = trace(case, on=on)
    same = diff(plain, trace(case, on=on, keep=["*"]))
    assert same.first is None and not same.changes and same.common == plain.length
    run = trace(case, on=on, edits=[Zero("layers.1.attention.mixed[head=2]")])
    found = diff(plain, run)
    assert found.first is not None
    assert found.first.startswith("layers.1.attention.mixed[position=0, head=2, head_dim=")
    assert found.values is not None and found.values[1] == 0
    assert dict(found.layers)["layers.1.residual_in"] < 1e-6
    first = found.changes[0]
    logits = [r["head.logits"][found.position, first.id] for r in (plain, run)]
    assert first.logits == tuple(map(float, logits))
    gaps = np.abs(plain["head.logits"][found.position] - run["head.logits"][found.position])
    assert first.id == int(gaps.argmax())
    other = trace(case, rows=(1,))
    parted = diff(plain, other)
    assert parted.common == 0 or parted.first is not None
    with pytest.raises(TraceError, match="models of different shape"):
        diff(plain, trace(golden("gpt2", "plain")))
