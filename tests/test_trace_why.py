"""Why a word was as probable as it was, against Hugging Face on the shortened text."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny
import torch
from golden import golden
from recorded import sampled

import lucidlm
from lucidlm.errors import TraceError
from lucidlm.locale import LANGUAGES
from lucidlm.terminal import show
from lucidlm.trace import numbers
from lucidlm.trace.edits import Zero
from lucidlm.trace.why import REMOVED, why
from lucidlm.trace.words import listed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return lucidlm.load(str(tiny.build(tmp_path_factory.mktemp("model"), positions=128)))


def theirs(family: str, shape: str, ids: list[int], source: list[int] | None, at: int) -> Any:
    """Hugging Face's probabilities at position `at`."""
    pair = golden(family, shape)
    inputs = {"input_ids": torch.tensor([ids])}
    if source is not None:
        inputs = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([ids])}
    with torch.inference_mode():
        out = pair.theirs(**inputs)
    logits = out.logits if hasattr(out, "logits") else out.prediction_logits
    return torch.softmax(logits[0, at], -1).numpy()


@pytest.mark.parametrize(
    ("family", "shape"),
    [("llama", "llama 2"), ("bart", "marian"), ("t5", "v1.0"), ("bert", "masked words")],
)
def test_leaving_a_word_out_is_what_hugging_face_makes_of_the_shorter_text(
    family: str, shape: str
) -> None:
    trace = sampled(family, shape)
    reads = family == "bert"
    found = why(trace, position=3 if reads else None)
    ids = list(trace.ids) if reads else list(trace.ids)[: found.position]
    source = [token.id for token in trace.sources] or None
    at = found.position if reads else found.position - 1
    whole = theirs(family, shape, ids, source, at)
    assert found.probability == pytest.approx(whole[found.id], rel=1e-4)
    assert len(found.removed) == found.earlier > 3
    for one in found.removed[::3]:
        left, cut = list(ids), list(source or ())
        del (cut if one.stack == "source" else left)[one.position]
        shift = one.stack == "text" and one.position < at + (not reads)
        expected = theirs(family, shape, left, cut or None, at - shift)
        assert one.probability == pytest.approx(expected[found.id], rel=1e-4)
    effects = [abs(one.probability - found.probability) for one in found.removed]
    assert effects == sorted(effects, reverse=True)


@pytest.mark.parametrize(("family", "shape"), [("llama", "llama 2"), ("bart", "marian")])
def test_what_the_layers_wrote_adds_up_to_the_logit(family: str, shape: str) -> None:
    trace = sampled(family, shape)
    found = why(trace, position=7)
    assert found.no_layers is None
    assert sum(share.value for share in found.shares) == pytest.approx(found.logit, abs=1e-4)
    patterns = [at for at in trace.catalogue if at.endswith(".attention.pattern")]
    layers = sum(not at.startswith("encoder.") for at in patterns)
    assert {share.layer for share in found.shares} == {None, *range(layers)}


def test_what_is_not_all_is_never_written_as_all() -> None:
    for percent in (numbers.percent, show.percent):
        assert percent(1.0) == "100.0 %" and percent(0.0) in ("0 %", "0.0 %")
        assert percent(0.999) == "99.9 %" and percent(0.9995) == "99.95 %"
        assert percent(0.99999994) == "99.99999 %" and percent(1 - 2.0**-53) != "100.0 %"
        assert float(percent(1e-12).split()[0]) > 0


def test_lists_in_sentences() -> None:
    assert listed(["a"], "part", "en") == "a" and listed([], "part", "en") == ""
    assert listed(["a", "b", "c"], "part", "en") == "a, b and c"
    assert listed(["甲", "乙", "丙"], "part", "zh") == "甲、乙和丙"
    assert listed(["甲", "乙", "丙"], "clause", "zh") == "甲；乙；丙"


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_reasons_in_words(model: Any, lang: str) -> None:
    found = why(model.trace("The capital of France", max_new_tokens=2))
    said = " ".join(found.words(lang))
    assert f"{100 * found.probability:.1f} %" in said and found.word in said
    assert found.removed[0].label.strip() in said
    assert json.loads(json.dumps(found.to_json(lang)))["words"] == list(found.words(lang))


def test_a_word_may_be_named(model: Any) -> None:
    trace = model.trace("The cat sat on the mat", max_new_tokens=1)
    by_text = why(trace, "cat")
    assert by_text == why(trace, by_text.id) and by_text.word == trace.label(by_text.id)
    assert by_text.probability == pytest.approx(
        trace.sampled(trace.chosen[-1]).plain_probabilities[by_text.id]
    )
    for word in ("nosuchword", -1, 10**9):
        with pytest.raises(TraceError):
            why(trace, word)
    for position in (0, trace.length + 1, -99):
        with pytest.raises(TraceError):
            why(trace, position=position)


def test_of_many_words_those_that_attention_looks_at_most(model: Any) -> None:
    trace = model.trace("the cat " * 40, max_new_tokens=1)
    found = why(trace)
    assert len(found.removed) == REMOVED < found.earlier
    seen = sum(
        trace.read(f"layers.{layer}.attention.pattern")[:, found.position - 1].sum(0)
        for layer in range(model.config.decoder.layers)
    )
    kept = {one.position for one in found.removed}
    left = set(range(found.position)) - kept
    assert min(seen[at] for at in kept) >= max(seen[at] for at in left)
    assert str(REMOVED) in " ".join(found.words("en"))


def test_why_there_is_nothing_to_say(model: Any) -> None:
    with pytest.raises(TraceError, match="vectors"):
        why(sampled("bert", "sentence encoder"), position=1)
    with pytest.raises(TraceError, match="position"):
        why(sampled("bert", "masked words"))
    edited = model.trace("The cat", edits=[Zero("layers.0.attention.mixed[head=1]")])
    assert why(edited).no_words is not None and why(edited).words("zh")
