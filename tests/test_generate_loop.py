"""The decoding loop on toy engines: streaming, stopping, batches, chunks, cancelling, bad input."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from engines import Pieces, Script, TableEngine, ToyEngine, letters
from hypothesis import given
from hypothesis import strategies as st

from lucidlm.engine import ForwardContext
from lucidlm.errors import GenerationError
from lucidlm.generate import (
    GenerationSettings,
    SamplingSettings,
    Text,
    TextStream,
    complete,
    generate,
    row_seed,
)
from lucidlm.generate.prompt import split
from lucidlm.text.spelling import readable

ids = st.integers(0, 11)
prompts = st.lists(st.lists(ids, min_size=1, max_size=9), min_size=1, max_size=4)


def settings(temperature: float = 0, seed: int | None = None, **more: Any) -> GenerationSettings:
    sampling = SamplingSettings(temperature=temperature, seed=seed)
    return GenerationSettings(sampling=sampling, **more)


def run(engine: ToyEngine, rows: Any, chosen: GenerationSettings, **more: Any) -> list[Text]:
    more.setdefault("decoder", letters(engine.vocab_size))
    return complete(engine, rows, chosen, **more)


def said(completions: list[Text]) -> list[Any]:
    return [(c.ids, c.text, c.stop_reason, [t.probability for t in c.tokens]) for c in completions]


@given(prompts, st.integers(0, 99), st.sampled_from([0, 1.0]), st.booleans())
def test_a_batch_is_its_rows_alone(
    rows: list[list[int]], seed: int, temperature: float, encoder: bool
) -> None:
    engine = ToyEngine(seed=seed)
    end = frozenset({3, 7})
    sources = [row[::-1] for row in rows] if encoder else None
    batch = run(
        engine, rows, settings(temperature, seed, max_new_tokens=12, end=end), sources=sources
    )
    for r, row in enumerate(rows):
        chosen = settings(temperature, row_seed(seed, r), max_new_tokens=12, end=end)
        alone = run(engine, [row], chosen, sources=None if sources is None else [sources[r]])
        assert said(alone) == said([batch[r]])


@given(prompts, st.integers(1, 10), st.integers(0, 99))
def test_prefill_in_chunks_is_one_pass(rows: list[list[int]], chunk: int, seed: int) -> None:
    whole, pieces = ToyEngine(seed=seed), ToyEngine(seed=seed)
    expected = run(whole, rows, settings(max_new_tokens=4))
    chunked = run(pieces, rows, settings(max_new_tokens=4, prefill_chunk=chunk))
    assert said(expected) == said(chunked)
    if len(rows) == 1:
        prefill = pieces.reads[: -(-len(rows[0]) // chunk)]
        assert max(max(read) for read in prefill) <= chunk
        assert sum(read[0] for read in prefill) == len(rows[0])


@given(prompts, st.integers(1, 10))
def test_split_loses_nothing(rows: list[list[int]], chunk: int) -> None:
    steps = split(rows, chunk)
    assert [[i for step in steps for i in step[r]] for r in range(len(rows))] == rows
    assert all(len(piece) >= 1 for step in steps for piece in step)


@given(prompts, st.integers(0, 99))
def test_same_seed_same_text(rows: list[list[int]], seed: int) -> None:
    engine = ToyEngine()
    first = run(engine, rows, settings(1.3, seed, max_new_tokens=8))
    assert said(first) == said(run(engine, rows, settings(1.3, seed, max_new_tokens=8)))


def test_another_seed_another_text() -> None:
    texts = {
        run(ToyEngine(), [[1]], settings(1.3, seed, max_new_tokens=8))[0].text for seed in range(9)
    }
    assert len(texts) == 9


@given(st.lists(ids, min_size=1, max_size=9), st.integers(0, 8), st.integers(0, 99))
def test_toy_caches_are_independent(row: list[int], cut: int, seed: int) -> None:
    """The law that the loop relies on, on the engine that stands for the others here."""
    engine = ToyEngine(seed=seed)
    cache = engine.cache(1)
    engine.step([row], ForwardContext(cache=cache))
    fork = cache.fork()
    after = engine.step([[5]], ForwardContext(cache=fork))
    assert cache.lengths == [len(row)] and fork.lengths == [len(row) + 1]
    np.testing.assert_array_equal(engine.step([[5]], ForwardContext(cache=cache)), after)
    cache.truncate(min(cut, len(row)))
    rest = [*row[min(cut, len(row)) :], 5]
    np.testing.assert_array_equal(engine.step([rest], ForwardContext(cache=cache)), after)


def test_finished_rows_cost_nothing() -> None:
    engine = Script(10)
    rows = [[1], [4], [6]]  # 9 comes after 8, 5 and 3 steps
    completions = run(engine, rows, settings(max_new_tokens=20, end=frozenset({9})))
    assert [len(c.ids) for c in completions] == [8, 5, 3]
    assert [len(read) for read in engine.reads] == [3, 3, 3, 2, 2, 1, 1, 1]
    assert all(c.stop_reason == "end" for c in completions)


def test_steps_say_where_they_are() -> None:
    steps = list(
        generate(
            Script(10), [[0, 1], [5]], settings(max_new_tokens=3, stop=["i"]), decoder=letters(10)
        )
    )
    assert [(s.row, s.index, s.position, s.id, s.text, s.finished) for s in steps] == [
        (0, 0, 2, 2, "c", None),
        (1, 0, 1, 6, "g", None),
        (0, 1, 3, 3, "d", None),
        (1, 1, 2, 7, "h", None),
        (0, 2, 4, 4, "e", "length"),
        (1, 2, 3, 8, "", "stop"),
    ]
    assert all(s.sampled.id == s.id and s.bytes == letters(10).bytes_of(s.id) for s in steps)


def test_the_context_ends_a_row() -> None:
    completions = run(ToyEngine(max_positions=8), [[1, 2, 3], [4]], settings(max_new_tokens=99))
    assert [(len(c.ids), c.stop_reason) for c in completions] == [(5, "context"), (7, "context")]
    one = run(ToyEngine(max_positions=8), [[1] * 7], settings(max_new_tokens=1))[0]
    assert (len(one.ids), one.stop_reason) == (1, "length")


@given(st.lists(ids, min_size=1, max_size=4), st.integers(0, 99), st.sampled_from([0.0, 1.0]))
def test_encoder_decoder_uses_its_source(row: list[int], seed: int, temperature: float) -> None:
    engine = ToyEngine(seed=seed)
    forced = settings(temperature, seed, max_new_tokens=4, forced_bos=2)
    completion = run(engine, [[0]], forced, sources=[row])[0]
    assert completion.ids[0] == 2
    cache = engine.cache(1)
    engine.encode([row], ForwardContext(cache=cache))
    logits = engine.step([[0]], ForwardContext(cache=cache))[0]
    expected = np.exp(logits - logits.max())[2] / np.exp(logits - logits.max()).sum()
    assert completion.tokens[0].probability == pytest.approx(expected, rel=1e-5)


def test_completion_tells_tokens_and_alternatives() -> None:
    engine = TableEngine(np.log([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [0.2, 0.2, 0.6]]))
    decoder = Pieces([b"\xe5", b"\xa5\xbd", b"ok"])
    c = complete(engine, [[0]], settings(max_new_tokens=3), decoder=decoder, alternatives=2)[0]
    assert c.ids == (1, 0, 1) and c.prompt_tokens == 1 and c.stop_reason == "length"
    assert c.text == "\\xA5\\xBD好"
    assert [t.text for t in c.tokens] == ["\\xA5\\xBD", "\\xE5", "\\xA5\\xBD"]
    assert [t.probability for t in c.tokens] == pytest.approx([0.6, 0.5, 0.6])
    assert [(a.id, a.text) for a in c.tokens[1].alternatives] == [(0, "\\xE5"), (2, "ok")]
    assert [a.probability for a in c.tokens[1].alternatives] == pytest.approx([0.5, 0.3])
    assert c.seconds > 0 and c.tokens_per_second == pytest.approx(3 / c.seconds)


# --- text


texts = st.text(st.sampled_from("ab好😀é\n"), max_size=12)


def cuts(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` in pieces of `sizes`, and the rest byte by byte."""
    pieces, at = [], 0
    for size in sizes + [1] * len(data):
        pieces.append(data[at : at + size])
        at += size
    return pieces


@given(
    st.one_of(texts.map(str.encode), st.binary(max_size=12)),
    st.lists(st.integers(1, 5), max_size=6),
    st.lists(st.text(st.sampled_from("ab好"), min_size=1, max_size=3), max_size=3),
)
def test_streamed_text_does_not_depend_on_the_cuts(
    data: bytes, sizes: list[int], stop: list[str]
) -> None:
    stream, out = TextStream(stop), []
    for piece in cuts(data, sizes):
        out.append(stream.push(piece))
    out.append(stream.flush())
    ends = [data.find(s.encode()) + len(s.encode()) for s in stop if s.encode() in data]
    kept = data
    if ends:
        first = min(ends)
        length = max(len(s.encode()) for s in stop if data[:first].endswith(s.encode()))
        kept = data[: first - length]
    assert "".join(out) == readable(kept)
    assert stream.stopped == bool(ends)
    assert not any(s in "".join(out) for s in stop)
    assert all("\ufffd" not in text for text in out)


@given(texts)
def test_a_character_is_never_cut(text: str) -> None:
    stream = TextStream()
    out = [stream.push(bytes([byte])) for byte in text.encode()]
    assert "".join(out) == text and stream.flush() == ""
    assert all(len(piece) <= 1 for piece in out)


@given(st.binary(max_size=20))
def test_readable_is_pythons_escape_in_capitals(data: bytes) -> None:
    expected = data.decode("utf-8", errors="backslashreplace")
    assert readable(data).lower() == expected.lower()
    assert readable(b"\xe5\xa5 \xff") == "\\xE5\\xA5 \\xFF"


@given(prompts, st.integers(0, 99), st.lists(st.sampled_from(["ab", "c", "bca", "好"]), max_size=3))
def test_streamed_concatenation_is_the_final_text(
    rows: list[list[int]], seed: int, stop: list[str]
) -> None:
    good = "好".encode()
    pieces = [b"a", b"b", b"c", b"ab", b"ca", good, good[:1], good[1:2], good[2:], b"", b" ", b"x"]
    chosen = settings(1, seed, max_new_tokens=20, stop=stop, end=frozenset({11}))
    streamed = [""] * len(rows)
    raw: list[list[int]] = [[] for _ in rows]
    for step in generate(ToyEngine(seed=seed), rows, chosen, decoder=Pieces(pieces)):
        streamed[step.row] += step.text
        raw[step.row].append(step.id)
        assert not any(s in streamed[step.row] for s in stop)
    final = complete(ToyEngine(seed=seed), rows, chosen, decoder=Pieces(pieces))
    assert streamed == [c.text for c in final]
    for c, row in zip(final, raw, strict=True):
        assert list(c.ids) == row
        whole = b"".join(pieces[i] for i in row if i != 11)
        assert readable(whole).startswith(c.text.removesuffix("\\xE5\\xA5").removesuffix("\\xE5"))
        if c.stop_reason == "stop":
            assert any(s.encode() in whole for s in stop)
        else:
            assert c.text == readable(whole)


# --- cancellation


def test_cancelling_ends_every_row_and_flushes() -> None:
    steps = []
    for step in generate(
        Script(10),
        [[0], [4]],
        settings(stop=["cx", "gx"]),
        decoder=letters(10),
        cancelled=lambda: len(steps) >= 2,
    ):
        steps.append(step)
    assert [(s.row, s.text, s.finished) for s in steps] == [
        (0, "b", None),
        (1, "f", None),
        (0, "c", "cancelled"),
        (1, "g", "cancelled"),
    ]


def test_cancelling_during_the_prompt_yields_nothing() -> None:
    engine = Script(10)
    asked = iter([False, True])
    chosen = settings(prefill_chunk=1)
    [completion] = run(engine, [[0, 1, 2, 3]], chosen, cancelled=lambda: next(asked))
    assert completion.stop_reason == "cancelled" and completion.ids == ()
    assert completion.tokens_per_second == 0 and len(engine.reads) == 1


def test_closing_frees_the_cache() -> None:
    caches = []

    class Watched(ToyEngine):
        def cache(self, rows: int) -> Any:
            made = super().cache(rows)
            caches.append(weakref.ref(made))
            return made

    stream = generate(Watched(), [[1]], settings(), decoder=letters(12))
    next(stream)
    assert caches[0]() is not None
    stream.close()
    gc.collect()
    assert caches[0]() is None


def test_the_tracer_reaches_the_engine() -> None:
    seen = []

    class Traced(ToyEngine):
        def step(self, ids: Any, ctx: ForwardContext) -> Any:
            seen.append(ctx.tracer)
            return super().step(ids, ctx)

    def tracer(path: str, name: str, value: Any) -> Any:
        return value

    run(Traced(), [[1, 2]], settings(max_new_tokens=2), tracer=tracer)
    assert seen == [tracer, tracer]


# --- bad input


@pytest.mark.parametrize(
    ("rows", "more", "key", "shown"),
    [
        ([], {}, "empty_prompt", "empty"),
        ([[]], {}, "empty_prompt", "empty"),
        ([[1], []], {}, "empty_prompt", "empty"),
        ([[1] * 16], {}, "prompt_too_long", "16"),
        ([[1] * 99], {}, "prompt_too_long", "99"),
        ([[12]], {}, "id_outside", "12"),
        ([[-1]], {}, "id_outside", "-1"),
        ([["a"]], {}, "not_ids", "'a'"),
        ([[1.5]], {}, "not_ids", "1.5"),
        ([[1]], {"sources": []}, "unequal_rows", "0"),
        ([[1]], {"sources": [[]]}, "empty_prompt", "empty"),
        ([[1]], {"sources": [[1] * 17]}, "source_too_long", "17"),
        ([[1]], {"sources": [[99]]}, "id_outside", "99"),
    ],
)
def test_bad_input_is_one_sentence_before_anything_runs(
    rows: Any, more: Any, key: str, shown: str
) -> None:
    engine = ToyEngine(max_positions=16)
    with pytest.raises(GenerationError) as caught:
        generate(engine, rows, settings(), decoder=letters(12), **more)
    assert caught.value.key == f"generate.{key}"
    assert shown in str(caught.value) and caught.value.message("zh") != str(caught.value)
    assert engine.reads == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("max_new_tokens", v) for v in (0, -1, 1.5, "9", None, True)),
        *(("beams", v) for v in (0, -2, 1.5)),
        *(("prefill_chunk", v) for v in (0, "x")),
        *(("length_penalty", v) for v in (float("nan"), float("inf"), "x", 1e9)),
        *(("early_stopping", v) for v in ("always", 1, None)),
        *(("stop", v) for v in ("abc", [""], [1], b"x", 3, None)),
        *(("end", v) for v in ({-1}, {"x"}, 5)),
        ("forced_bos", -1),
        ("forced_bos", "x"),
    ],
)
def test_impossible_settings_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(GenerationError) as caught:
        GenerationSettings(**{field: value})
    assert field in str(caught.value) and field in caught.value.message("zh")


@pytest.mark.parametrize(
    "chosen",
    [
        settings(forced_bos=12),
        GenerationSettings(sampling=SamplingSettings(suppressed=frozenset({99}))),
        GenerationSettings(sampling=SamplingSettings(logit_bias={12: 1})),
    ],
)
def test_settings_that_name_unknown_ids_are_refused(chosen: GenerationSettings) -> None:
    with pytest.raises(GenerationError) as caught:
        generate(ToyEngine(), [[1]], chosen, decoder=letters(12))
    assert caught.value.key == "generate.setting_outside"


def test_beams_neither_stream_nor_sample() -> None:
    with pytest.raises(GenerationError):
        settings(temperature=1, beams=2)
    with pytest.raises(GenerationError):
        generate(ToyEngine(), [[1]], settings(beams=2), decoder=letters(12))


def test_a_dead_end_is_a_clear_error() -> None:
    engine = TableEngine([[-np.inf, 0.0], [-np.inf, -np.inf]])
    for beams in (1, 2):
        with pytest.raises(GenerationError) as caught:
            run(engine, [[0]], settings(beams=beams))
        assert caught.value.key == "generate.all_impossible"


def test_numpy_ids_are_fine() -> None:
    expected = run(ToyEngine(), [[1, 2]], settings(max_new_tokens=3))
    assert said(run(ToyEngine(), [np.array([1, 2])], settings(max_new_tokens=3))) == said(expected)
