"""The reference in NumPy against Hugging Face and the PyTorch model, both in float64: every logit
and every site, for every family and for random architectures.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from golden import CASES, golden, hugging_face, widened
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import WRITERS, marked
from test_golden_generate import Bytes, prompts
from test_model_laws import configs, random_engine
from transformers.models.t5.modeling_t5 import T5Attention

import lucidlm
from lucidlm.config import Config, RelativeBias
from lucidlm.engine import Engine, ForwardContext
from lucidlm.errors import MissingExtra, UnknownName
from lucidlm.generate import GenerationSettings, beam_search, complete
from lucidlm.reference import equations
from lucidlm.reference.engine import Reference
from lucidlm.trace.arrange import arrange
from lucidlm.trace.site import Site
from lucidlm.trace.sites import catalogue

CLOSE = 1e-10  # of the largest value
READERS = [("llama", "llama 3"), ("bert", "masked words"), ("bart", "bart")]  # one of each kind
Rows = list[list[int]]
Values = dict[str, np.ndarray]


@cache
def reference(family: str, shape: str) -> Reference:
    checkpoint = golden(family, shape).checkpoint
    return Reference(checkpoint.config, checkpoint.weights())


def rows_of(family: str, shape: str) -> tuple[Rows, Rows | None]:
    case = golden(family, shape)
    return case.ids.tolist(), None if case.source is None else case.source.tolist()


class Tap:
    """Keeps every value by its address, and changes those at `edited`."""

    def __init__(self, edited: str = "") -> None:
        self.edited = edited
        self.seen: Values = {}

    def __call__(self, path: str, name: str, value: Any) -> Any:
        if (address := f"{path}.{name}") == self.edited:
            value = value * 1.5 + 0.25
        self.seen[address] = np.asarray(value).copy()
        return value


def captured(
    engine: Engine, rows: Rows, sources: Rows | None = None, edited: str = "", **options: Any
) -> Values:
    """Every site of one pass over `rows`, in order; of an engine without a head, of the encoder."""
    tap = Tap(edited)
    ctx = ForwardContext(cache=engine.cache(len(rows)), tracer=tap, every_position=True, **options)
    if sources is not None:
        engine.encode(sources, ctx)
    if "head.logits" in engine.sites:
        engine.step(rows, ctx)
    else:
        engine.encode(rows, ctx)
    return tap.seen


def last(values: Values) -> np.ndarray:
    """Logits, or the last vectors where there is no head."""
    return [value for site, value in values.items() if not site.startswith("pooler")][-1]


def difference(found: Any, wanted: Any) -> float:
    """max |found - wanted| / max |wanted| of what is finite, infinities being in the same places"""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    finite = np.isfinite(wanted)
    assert np.array_equal(found[~finite], wanted[~finite])
    most = np.abs(found[finite] - wanted[finite]).max(initial=0.0)
    return float(most and most / np.abs(wanted[finite]).max())


def assert_same_sites(found: Values, wanted: Values) -> None:
    assert list(found) == list(wanted)
    worst = {site: difference(found[site], wanted[site]) for site in wanted}
    assert max(worst.values()) < CLOSE, max(worst, key=lambda site: worst[site])


# -- against what is not ours, and against the model -----------------------------------------------


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_logits_are_hugging_faces(family: str, shape: str) -> None:
    case = golden(family, shape)
    with widened():
        theirs = case.their_output(hugging_face(case.hf)).numpy()
    assert difference(last(captured(reference(family, shape), *rows_of(family, shape))), theirs) < (
        CLOSE
    )


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_every_site_is_the_models(family: str, shape: str) -> None:
    """The same names, those of the catalogue; the same shapes; the same numbers."""
    case, rows = golden(family, shape), rows_of(family, shape)
    found = captured(reference(family, shape), *rows)
    assert_same_sites(found, captured(case.engine("float64"), *rows))
    sites = catalogue(case.checkpoint.config).values()
    outside = ("sampling", "tokenizer")
    assert set(found) == {s.address for s in sites if not s.derived and s.part not in outside}
    assert list(reference(family, shape).sites) == list(found)


@given(configs(), st.data())
@settings(max_examples=40)
def test_any_architecture_is_the_models(config: Config, data: Any) -> None:
    """Random architectures: every site, in ragged rows and in two steps."""
    model = random_engine(config)
    ids = st.lists(st.integers(0, config.vocab_size - 1), min_size=1, max_size=6)
    sources, *steps = (data.draw(st.tuples(ids, ids)) for _ in range(3))
    if config.decoder is None:
        del steps[1:]  # an encoder reads everything at once
    outputs, taps = [], []
    for engine in (Reference(config, model.weights()), model):
        taps.append(Tap())
        ctx = ForwardContext(cache=engine.cache(2), tracer=taps[-1], every_position=True)
        if config.kind == "encoder-decoder":
            engine.encode(sources, ctx)
        outputs.append([engine.step(rows, ctx) for rows in steps])
    for found, wanted in zip(*outputs, strict=True):
        assert found.dtype == np.float32 and difference(found, wanted) < 1e-6
    (ours, theirs), sites = (tap.seen for tap in taps), catalogue(config)
    assert list(ours) == list(theirs)
    for row in (0, 1):
        lengths = len(steps[-1][row]), sum(len(rows[row]) for rows in steps), len(sources[row])
        for address in ours:
            found, wanted = (
                real(sites[address], seen[address][row], *lengths) for seen in (ours, theirs)
            )
            assert difference(found, wanted) < CLOSE, address


def real(site: Site, row: np.ndarray, new: int, known: int, source: int) -> np.ndarray:
    """A tap's value of one row without padding, along the site's axes."""
    lengths = {"positions": (new, new, known), "sources": (source,) * 3}
    sizes = [lengths[n][axis] if isinstance(n, str) else n for axis, n in enumerate(site.sizes)]
    return arrange(site, row)[tuple(map(slice, sizes))]


@pytest.mark.parametrize(("family", "shape"), READERS)
def test_a_replaced_value_does_what_it_does_to_the_model(family: str, shape: str) -> None:
    """Each site in turn is changed; all that follows is what follows in the model."""
    case, rows = golden(family, shape), rows_of(family, shape)
    model, ours = case.engine("float64"), reference(family, shape)
    plain = captured(ours, *rows)
    for site in ours.sites:
        if ".1." not in site:  # one layer stands for all
            found = captured(ours, *rows, edited=site)
            assert_same_sites(found, captured(model, *rows, edited=site))
            assert difference(found[site], plain[site]) > 1e-3


def test_segments_are_the_models() -> None:
    case, rows = golden("bert", "both"), rows_of("bert", "both")
    kinds = [[0] * 6 + [1] * (len(row) - 6) for row in rows[0]]
    found = captured(reference("bert", "both"), *rows, segments=kinds)
    assert_same_sites(found, captured(case.engine("float64"), *rows, segments=kinds))
    assert found["embedding.segments"][0, 5].tolist() != found["embedding.segments"][0, 6].tolist()


@pytest.mark.parametrize(("family", "shape"), marked(WRITERS))
def test_ids_are_the_models(family: str, shape: str) -> None:
    """Greedily and by beams, driven by the same loops."""
    case = golden(family, shape)
    rows, sources = prompts(case)
    greedy = GenerationSettings(max_new_tokens=5, end=frozenset({1}))
    beams = replace(greedy, beams=3)
    found = []
    for engine in (reference(family, shape), case.engine("float64")):
        texts = complete(engine, rows, greedy, decoder=Bytes(), sources=sources)
        trees = beam_search(engine, rows, beams, decoder=Bytes(), sources=sources)
        found.append(([t.ids for t in texts], [[h.ids for h in tree] for tree in trees]))
    assert found[0] == found[1]


@given(st.integers(-3000, 3000), st.sampled_from([(32, 128), (64, 256), (8, 20)]), st.booleans())
def test_buckets_are_hugging_faces(distance: int, table: tuple[int, int], two_sided: bool) -> None:
    theirs = T5Attention._relative_position_bucket(torch.tensor(distance), two_sided, *table)
    relative = RelativeBias(buckets=table[0], max_distance=table[1])
    assert int(equations.bucket(distance, relative, two_sided)) == int(theirs)


def test_buckets_on_their_boundaries() -> None:
    """Where the logarithm is a whole number in exact arithmetic, its rounding decides."""
    distances = np.array([[s * 2**n + o for n in range(9) for o in (-1, 0, 1)] for s in (-1, 1)])
    for two_sided in (True, False):
        for table in ((32, 128), (64, 256), (16, 32)):
            relative = RelativeBias(buckets=table[0], max_distance=table[1])
            theirs = T5Attention._relative_position_bucket(
                torch.tensor(distances), two_sided, *table
            )
            assert equations.bucket(distances, relative, two_sided).tolist() == theirs.tolist()


@given(st.floats(-40, 40))
def test_activations_to_the_last_digits(x: float) -> None:
    """Small values far out are exact too, where a formula that subtracts loses them."""
    wanted = {
        "gelu": x * math.erfc(-x / math.sqrt(2)) / 2,
        "silu": x / (1 + math.exp(-x)),
        "sigmoid": 1 / (1 + math.exp(-x)),
        "tanh": math.tanh(x),
        "relu": max(x, 0.0),
    }
    for name, y in wanted.items():
        assert math.isclose(
            equations.activation(name)(np.array(x)), y, rel_tol=1e-14, abs_tol=1e-300
        )


# -- laws of its own -------------------------------------------------------------------------------


@given(st.sampled_from(WRITERS), st.lists(st.integers(1, 16), unique=True, max_size=6))
@settings(max_examples=30)
def test_cached_is_uncached(case: tuple[str, str], cuts: Sequence[int]) -> None:
    """Any cutting of the ids into steps gives the logits of one pass."""
    engine, (rows, sources) = reference(*case), rows_of(*case)
    tap = Tap()
    ctx = ForwardContext(cache=engine.cache(2), tracer=tap, every_position=True)
    if sources is not None:
        engine.encode(sources, ctx)
    parts, ends = [], [0, *sorted(cuts), len(rows[0])]
    for start, stop in pairwise(ends):
        engine.step([row[start:stop] for row in rows], ctx)
        parts.append(tap.seen["head.logits"])
    whole = captured(engine, rows, sources)["head.logits"]
    assert difference(np.concatenate(parts, axis=1), whole) < 1e-12


@pytest.mark.parametrize(("family", "shape"), marked())
def test_batch_is_single(family: str, shape: str) -> None:
    engine, (rows, sources) = reference(family, shape), rows_of(family, shape)
    rows, sources = [rows[0], rows[1][:5]], sources and [sources[0], sources[1][:3]]
    together = last(captured(engine, rows, sources))
    for number, row in enumerate(rows):
        single = last(captured(engine, [row], sources and [sources[number]]))
        assert difference(together[number, : len(row)], single[0]) < 1e-12
        assert not together[number, len(row) :].any()


def test_cache_fork_select_truncate() -> None:
    engine, (rows, _) = reference("gemma", "local and global"), rows_of("gemma", "local and global")
    ctx = ForwardContext(cache=engine.cache(2))
    engine.step([row[:6] for row in rows], ctx)
    fork = ctx.cache.fork()
    first = engine.step([[5], [6]], ctx)
    engine.step([[9], [9]], ForwardContext(cache=fork))  # must not be seen by the other
    second = engine.step([[7], [8]], ctx)

    ctx.cache.truncate(6)
    assert ctx.cache.lengths == [6, 6] and fork.lengths == [7, 7]
    assert (engine.step([[5], [6]], ctx) == first).all()
    assert (engine.step([[7], [8]], ctx) == second).all()

    ctx.cache.truncate(6)
    swapped = ForwardContext(cache=ctx.cache.select([1, 0, 1]))
    assert (engine.step([[6], [5], [6]], swapped) == first[[1, 0, 1]]).all()


def test_a_step_that_failed_has_read_nothing() -> None:
    engine, (rows, _) = reference("llama", "llama 3"), rows_of("llama", "llama 3")
    ctx = ForwardContext(cache=engine.cache(2))
    engine.step(rows, ctx)

    def fail(path: str, name: str, value: Any) -> Any:
        if path == "layers.1.attention":
            raise RuntimeError
        return value

    with pytest.raises(RuntimeError):
        engine.step([[3], [4]], replace(ctx, tracer=fail))
    plain = ForwardContext(cache=engine.cache(2))
    engine.step(rows, plain)
    assert (engine.step([[5], [6]], ctx) == engine.step([[5], [6]], plain)).all()


@pytest.mark.parametrize(("family", "shape"), marked())
def test_replay_of_a_part_is_the_run(family: str, shape: str) -> None:
    """Every part from its recorded input: the same values at the same sites."""
    engine, (rows, sources) = reference(family, shape), rows_of(family, shape)
    config = engine.config
    run = captured(engine, rows, sources)
    parts: dict[str, list[str]] = {}
    for address, site in catalogue(config).items():
        if address in run:
            parts.setdefault(site.part, []).append(address)
    memory, output, vector = None, "", np.empty(0)
    for name in config.stacks:
        at = f"{name}." if len(config.stacks) > 1 else ""
        ids = sources if at == "encoder." else rows
        layers = [part for part in parts if part.startswith(f"{at}layers.")]
        inputs: dict[str, Any] = {f"{at}embedding": ids}
        inputs |= {part: run[f"{part}.residual_in"] for part in layers}
        inputs[f"{at}final_norm"] = vector = run[f"{layers[-1]}.residual_out"]
        for part, x in inputs.items():
            if part in parts:
                tap = Tap()
                engine.replay(part, x, ForwardContext(tracer=tap, memory=memory))
                assert list(tap.seen) == parts[part]
                assert all((tap.seen[site] == run[site]).all() for site in parts.pop(part))
        vector = run.get(f"{at}final_norm.output", vector)
        memory, output = vector, at
    for part in ("head", "pooler"):
        if part in parts:
            tap = Tap()
            again = engine.replay(part, vector, ForwardContext(tracer=tap))
            sites = parts.pop(part)
            assert list(tap.seen) == sites, output
            assert all((tap.seen[site] == run[site]).all() for site in sites)
            assert (again == run[sites[-1]].astype(np.float32)).all()
    assert not parts


def test_weights_stay_as_they_are() -> None:
    """Nothing is widened before it is used: a model takes the memory of its arrays."""
    case = golden("bart", "marian")
    given = {name: array.astype(np.float16) for name, array in case.checkpoint.weights()}
    engine = Reference(case.checkpoint.config, given.items())
    engine.step([[1, 2]], _read(engine))
    assert all(engine.weight(name) is array for name, array in given.items())
    with pytest.raises(KeyError):
        engine.weight("no.such.weight")


def _read(engine: Engine) -> ForwardContext:
    ctx = ForwardContext(cache=engine.cache(1))
    engine.encode([[3, 4, 5]], ctx)
    return ctx


# -- where there is no PyTorch ---------------------------------------------------------------------


def test_it_needs_numpy_and_nothing_else() -> None:
    names = [path.stem for path in (Path(lucidlm.__file__).parent / "reference").glob("*.py")]
    imports = "\n".join(f"import lucidlm.reference.{name}" for name in names)
    code = f"import sys\nold = set(sys.modules)\n{imports}\nprint(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "engine" in names and loaded <= {"lucidlm", "numpy", *sys.stdlib_module_names}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "marian"])
def test_a_small_model_runs_without_pytorch(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tiny.build(tmp_path, kind))
    options: dict[str, Any] = {"max_new_tokens": 6, "beams": 1}
    wanted = lucidlm.load(folder, dtype="float64").generate("The cat", **options)
    assert isinstance(lucidlm.load(folder, engine="reference").engine, Reference)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "lucidlm.model.engine")
    monkeypatch.setenv("LUCIDLM_NATIVE", "0")
    model = lucidlm.load(folder)
    assert isinstance(model.engine, Reference)
    assert model.generate("The cat", **options).ids == wanted.ids

    with pytest.raises(MissingExtra, match=r"lucidlm\[torch\]"):
        lucidlm.load(folder, engine="torch")
    monkeypatch.setattr("lucidlm.api.SMALL", 1000)
    with pytest.raises(MissingExtra, match=r"lucidlm\[torch\]"):
        lucidlm.load(folder)


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    folder = str(tiny.build(tmp_path))
    with pytest.raises(UnknownName, match="reference"):
        lucidlm.load(folder, engine="refrence")  # type: ignore[arg-type]
