"""Every family, in every shape of its `tiny`, against transformers with the same random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import CASES, WIDTH, difference, golden, hugging_face, widened

from lucidlm.engine import ForwardContext

READERS = ("bert", "t5", "bart")  # families with an encoder


def two_rows(case: Any, engine: Any, **options: Any) -> ForwardContext:
    """A context with a cache that has read the source, where there is one."""
    ctx = ForwardContext(cache=engine.cache(2), **options)
    if case.source is not None:
        engine.encode(case.source.tolist(), ctx)
    return ctx


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_logits_in_float32(family: str, shape: str) -> None:
    case = golden(family, shape)
    theirs = case.their_output(case.theirs)
    assert difference(case.our_output(case.engine()), theirs) < 1e-5


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_logits_in_float64(family: str, shape: str) -> None:
    """To 1e-10 of the same code widened to float64, and to 1e-6 of it as it is, with the casts to
    float32 that it has in rotations, norms and softmax."""
    case = golden(family, shape)
    ours = case.our_output(case.engine("float64"))
    assert difference(ours, case.their_output(case.theirs)) < 1e-6
    with widened():
        wide = hugging_face(case.hf)
        theirs = case.their_output(wide)
    assert difference(ours, theirs) < 1e-10


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_cached_is_uncached(family: str, shape: str) -> None:
    """Chunks of the prompt, then one id at a time: the same logits as in one pass."""
    case, engine = golden(family, shape), golden(family, shape).engine()
    if case.checkpoint.config.decoder is None:
        pytest.skip("an encoder reads everything at once")
    whole = engine.step(case.ids.tolist(), two_rows(case, engine, every_position=True))
    ctx = two_rows(case, engine, every_position=True)
    ids, parts = case.ids.tolist(), []
    for start, stop in ((0, 7), (7, 8), (8, 13), (13, 14), (14, 15), (15, 16), (16, WIDTH)):
        parts.append(torch.from_numpy(engine.step([row[start:stop] for row in ids], ctx)))
    assert difference(torch.cat(parts, dim=1), torch.from_numpy(whole)) < 1e-5


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_batch_is_single(family: str, shape: str) -> None:
    """Rows of different lengths side by side: each gets what it gets alone."""
    case, engine = golden(family, shape), golden(family, shape).engine()
    if case.checkpoint.config.head is None:
        pytest.skip("no head")
    rows = [case.ids[0].tolist(), case.ids[1, :5].tolist()]
    sources = (
        None if case.source is None else [case.source[0].tolist(), case.source[1, :3].tolist()]
    )
    ctx = ForwardContext(cache=engine.cache(2), every_position=True)
    if sources is not None:
        engine.encode(sources, ctx)
    together = engine.step(rows, ctx)
    for number, row in enumerate(rows):
        alone = ForwardContext(cache=engine.cache(1), every_position=True)
        if sources is not None:
            engine.encode([sources[number]], alone)
        single = torch.from_numpy(engine.step([row], alone))[0]
        assert difference(torch.from_numpy(together[number, : len(row)]), single) < 1e-5
        assert not together[number, len(row) :].any()


@pytest.mark.parametrize(("family", "shape"), [case for case in CASES if case[0] in READERS])
def test_padding_as_theirs(family: str, shape: str) -> None:
    """A short source beside a long one equals theirs with an attention mask."""
    case, engine, short = golden(family, shape), golden(family, shape).engine(), 5
    read = case.ids if case.source is None else case.source
    mask = torch.ones_like(read)
    mask[1, short:] = 0
    inputs = {"input_ids": read, "attention_mask": mask}
    if case.source is not None:
        inputs["decoder_input_ids"] = case.ids
    with torch.inference_mode():
        out = case.theirs(**inputs)
    ctx = ForwardContext(cache=engine.cache(2), every_position=True)
    ours = engine.encode([read[0].tolist(), read[1, :short].tolist()], ctx)
    theirs = out.last_hidden_state if hasattr(out, "last_hidden_state") else None
    if case.source is not None:
        ours, theirs, short = engine.step(case.ids.tolist(), ctx), out.logits, WIDTH
    elif theirs is None:
        ours = engine.step([read[0].tolist(), read[1, :short].tolist()], ctx)
        theirs = out.logits if hasattr(out, "logits") else out.prediction_logits
    assert difference(torch.from_numpy(ours[0]), theirs[0]) < 1e-5
    assert difference(torch.from_numpy(ours[1, :short]), theirs[1, :short]) < 1e-5


@pytest.mark.parametrize("shape", ["masked words", "sentence encoder", "both"])
def test_bert_segments_and_pooler(shape: str) -> None:
    case = golden("bert", shape)
    engine = case.engine()
    segments = torch.zeros_like(case.ids)
    segments[:, 6:] = 1
    with torch.inference_mode():
        out = case.theirs.base_model(case.ids, token_type_ids=segments)
        ours = engine.encode(case.ids.tolist(), ForwardContext(segments=segments.tolist()))
        assert difference(torch.from_numpy(ours), out.last_hidden_state) < 1e-5
        pooler = engine.model.pooler
        assert (pooler is None) == (shape == "masked words")
        if pooler is not None:
            pooled = pooler(torch.from_numpy(ours), ForwardContext())
            assert difference(pooled, out.pooler_output) < 1e-5


def test_bfloat16_is_near() -> None:
    """Half the bytes, and the same model: within bfloat16's own rounding."""
    case = golden("llama", "llama 3")
    theirs = case.their_output(hugging_face(case.hf).to(torch.bfloat16))
    assert difference(case.our_output(case.engine("bfloat16")), theirs) < 0.05
