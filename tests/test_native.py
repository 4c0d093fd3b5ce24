"""The native engine against the readable model, for every family; and the same bits however a text
is cut, batched or shared out among threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from golden import CASES, VOCAB, Golden, golden
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model_laws import configs, random_engine

from lucidlm.config import Config
from lucidlm.engine import ForwardContext
from lucidlm.model.engine import TorchEngine
from lucidlm.stored import Stored
from lucidlm.trace.capture import capture

_native = pytest.importorskip("lucidlm.backends._native")
from lucidlm.backends.native.engine import FORMATS, NativeEngine  # noqa: E402

INSTRUCTIONS = _native.instructions()
DECODERS = [case for case in CASES if case[0] in ("llama", "gemma", "gpt2")]
CLOSE = 1e-5  # of the largest logit


def native(
    case: Golden, instructions: str = "", threads: int = 2, format: str | None = None
) -> NativeEngine:
    """As the file holds it, or in another format."""
    weights = case.checkpoint.stored(FORMATS) if format is None else stored_as(case, format)
    return NativeEngine(case.checkpoint.config, weights, threads=threads, instructions=instructions)


def stored_as(case: Golden, format: str) -> Iterator[tuple[str, Stored]]:
    """Every matrix in `format` whose rows are whole blocks."""
    for address, one in case.checkpoint.stored(("F32",)):
        if len(one.shape) != 2 or one.shape[1] % 32 or "position" in address:
            yield address, one
            continue
        wide = one.data.view(np.float32).reshape(one.shape)
        wide = wide if one.order is None else wide[one.order]
        blocks = quantize(np.ascontiguousarray(wide), GGMLQuantizationType[format])
        data = np.ascontiguousarray(blocks).reshape(-1).view(np.uint8)
        yield address, Stored(format, data, one.shape, None)


def from_torch(engine: TorchEngine, **options: Any) -> NativeEngine:
    """The same weights."""

    def stored() -> Iterator[tuple[str, Stored]]:
        for address, array in engine.weights():
            wide = np.ascontiguousarray(array, np.float32)
            yield address, Stored("F32", wide.reshape(-1).view(np.uint8), wide.shape, None)

    return NativeEngine(engine.model.config, stored(), **{"threads": 2, **options})


def outputs(
    engine: Any, config: Config, rows: Sequence[Sequence[int]], sources: Any = None
) -> np.ndarray:
    """Logits of every position, or last vectors where there is no head."""
    ctx = ForwardContext(cache=engine.cache(len(rows)), every_position=True)
    if sources is not None:
        engine.encode(sources, ctx)
    found: np.ndarray = engine.encode(rows, ctx) if config.head is None else engine.step(rows, ctx)
    return found


def assert_close(ours: np.ndarray, theirs: np.ndarray, bound: float = CLOSE) -> None:
    assert ours.shape == theirs.shape
    most = np.abs(ours.astype(np.float64) - theirs).max()
    assert most <= bound * np.abs(theirs).max(), most / np.abs(theirs).max()


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize(("family", "shape"), CASES)
def test_every_family_computes_what_the_readable_model_does(
    family: str, shape: str, instructions: str
) -> None:
    case = golden(family, shape)
    rows = case.ids.tolist()
    rows[1] = rows[1][:-4]  # of another length
    sources = None if case.source is None else case.source.tolist()
    ours, theirs = native(case, instructions), case.engine()
    config = case.checkpoint.config
    assert_close(outputs(ours, config, rows, sources), outputs(theirs, config, rows, sources))


@given(config=configs(), seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_every_config_too(config: Config, seed: int) -> None:
    theirs = random_engine(config, seed)
    theirs = TorchEngine(theirs.model.float())
    rows = [[1, 0, 1, 1, 0], [0, 1]]
    sources = [[0, 1, 1], [1]] if config.kind == "encoder-decoder" else None
    ours = from_torch(theirs)
    assert_close(outputs(ours, config, rows, sources), outputs(theirs, config, rows, sources), 2e-5)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_same_bits_however_it_is_cut(instructions: str, data: st.DataObject) -> None:
    """One row at a time by one thread, against batches, chunks, forks and threads."""
    family, shape = data.draw(st.sampled_from(DECODERS))
    case = golden(family, shape)
    config = case.checkpoint.config
    texts = data.draw(
        st.lists(
            st.lists(st.integers(0, VOCAB - 1), min_size=3, max_size=40), min_size=1, max_size=5
        )
    )
    format = data.draw(
        st.sampled_from(["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
    )
    alone = native(case, instructions, 1, format)
    expected = [outputs(alone, config, [text])[0] for text in texts]
    engine = native(case, instructions, data.draw(st.integers(1, 4)), format)
    cuts = [data.draw(st.integers(1, len(text) - 1)) for text in texts]
    cache = engine.cache(len(texts))
    ctx = ForwardContext(cache=cache, every_position=True)
    first = engine.step([text[:cut] for text, cut in zip(texts, cuts, strict=True)], ctx)
    kept = cache.fork()
    engine.step([[1]] * len(texts), ctx)  # written behind the fork, not into it
    ctx = ForwardContext(cache=kept, every_position=True)
    rest = engine.step([text[cut:] for text, cut in zip(texts, cuts, strict=True)], ctx)
    for row, (whole, cut) in enumerate(zip(expected, cuts, strict=True)):
        assert np.array_equal(first[row, :cut], whole[:cut])
        assert np.array_equal(rest[row, : len(whole) - cut], whole[cut:])


@pytest.mark.parametrize("format", ["F32", "F16", "Q4_0", "Q5_1", "Q8_0"])
@pytest.mark.parametrize(("family", "shape"), CASES)
def test_the_same_bits_on_every_instruction_set(family: str, shape: str, format: str) -> None:
    case = golden(family, shape)
    sources = None if case.source is None else case.source.tolist()
    first, *others = (
        outputs(
            native(case, one, format=format), case.checkpoint.config, case.ids.tolist(), sources
        )
        for one in INSTRUCTIONS
    )
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_every_site_is_shown_as_the_readable_model_shows_it(family: str, shape: str) -> None:
    case = golden(family, shape)
    config, theirs, ours = case.checkpoint.config, case.engine(), native(case)
    assert list(ours.sites) == list(theirs.sites)
    source = None if case.source is None else case.source[0].tolist()
    wanted = capture(theirs, config, case.ids[0].tolist(), source)
    found = capture(ours, config, case.ids[0].tolist(), source)
    assert found.keys() == wanted.keys()  # cross-attention's keys are shown with its other values
    for address, value in wanted.items():
        seen = np.isfinite(value)
        assert (np.isfinite(found[address]) == seen).all(), address
        most = np.abs(value[seen]).max(initial=1e-6)
        np.testing.assert_allclose(
            found[address][seen], value[seen], rtol=0, atol=5e-5 * most, err_msg=address
        )


@pytest.mark.parametrize(
    "format", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16", "F32"]
)
def test_a_packed_row_is_what_the_file_says(format: str) -> None:
    """Against the `gguf` library's own formulas, bit for bit; any bytes are a row."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType[format]
    block, size = GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(0)
    rows, columns = 37, 512
    data = random.integers(0, 256, (rows, columns // block * size), np.uint8)
    if format in ("F16", "BF16", "F32"):
        numbers = random.standard_normal((rows, columns)).astype(np.float32)
        data = {
            "F32": numbers,
            "F16": numbers.astype(np.float16),
            "BF16": (numbers.view(np.uint32) >> 16).astype(np.uint16),
        }[format].view(np.uint8)
    else:  # scales that are numbers
        scale = random.standard_normal((rows, columns // block)).astype(np.float16).view(np.uint8)
        places = {"Q6_K": [208]}.get(format, [0, 2] if format[-1] in "1K" else [0])
        shaped = data.reshape(rows, -1, size)
        for place in places:
            shaped[..., place : place + 2] = scale.reshape(rows, -1, 2)
    order = random.permutation(rows).astype(np.int32)
    wanted = dequantize(data, kind)[order]
    matrix = _native.matrix(_native.Arena(2), format, data.reshape(-1), rows, columns, order)
    np.testing.assert_array_equal(matrix.floats(), wanted)


def test_what_cannot_be_is_refused() -> None:
    data = np.zeros(18 * 4, np.uint8)
    for arguments in (
        ("Q4_9", data, 4, 32, None),
        ("Q4_0", data, 4, 31, None),
        ("Q4_0", data, 5, 32, None),
        ("Q4_0", data, 4, 32, np.array([0, 1, 2, 4], np.int32)),
        ("Q4_0", data, 4, 32, np.array([0, 1], np.int32)),
    ):
        with pytest.raises(ValueError):
            _native.matrix(_native.Arena(2), *arguments)
