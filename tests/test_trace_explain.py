"""Every number can say where it came from: cell by cell, down to weights and ids, and by a script
that works it out again.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tiny
from golden import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import SOURCE, sampled
from shapes import config, marked

import lucidlm
from lucidlm.errors import LucidError, TraceError, UnknownName
from lucidlm.locale import LANGUAGES
from lucidlm.trace.edits import Zero
from lucidlm.trace.explain import explain
from lucidlm.trace.operations import cell
from lucidlm.trace.operations.base import Kind
from lucidlm.trace.rows import ROWS
from lucidlm.trace.site import Site
from lucidlm.trace.sites import catalogue
from lucidlm.trace.trace import Trace
from lucidlm.trace.words import label, sentence


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return lucidlm.load(str(tiny.build(tmp_path_factory.mktemp("model"), positions=128)))


# -- every kind of number --------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "shape"), marked())
def test_a_cell_of_every_site_of_every_family(family: str, shape: str, tmp_path: Path) -> None:
    trace, numbers = sampled(family, shape), random.Random(f"{family} {shape}")
    for site in some_sites(trace, numbers):
        array = np.asarray(trace.read(site.address))
        place = [numbers.randrange(size) for size in array.shape]
        value = array[tuple(place)]
        place[0] += trace.start(site.address)
        address = cell(site.address, *zip(site.axes, place, strict=True))
        found = explain(trace, address)
        assert found.address == address
        assert found.value == value or value != value
        assert found.agrees, (address, found.value, found.total)
        assert found.equation == site.equation and found.mathml.startswith("<math")
        for lang in LANGUAGES:
            assert found.words(lang).startswith(sentence(site.key, lang))
            json.dumps(found.to_json(lang), allow_nan=False)
        nothing_is_dropped(found)
        file = tmp_path / "operands.npz"
        found.save_operands(file)
        printed = done(found.program(file))
        assert printed == pytest.approx(found.total, rel=1e-12, abs=1e-300, nan_ok=True), address


def test_there_is_no_other_kind() -> None:
    """The sites of all families, each of which is explained above, are of every kind there is, but
    for what an engine of few bits adds.
    """
    sites = [site for shape in CASES for site in catalogue(config(shape)).values()]
    assert {site.operation.kind for site in sites} == set(get_args(Kind)) - {"round"}


WHOLE = {
    ("bart", "marian"): {"sinusoid", "copy", "unary", "weighted_sum", "gain", "mean"},
    ("bert", "both"): {"lookup", "add", "dot", "scale_and_mask", "softmax", "normalize"},
    ("llama", "qwen3"): {"multiply", "rotate", "scale", "sample"},
    ("t5", "v1.1"): {"bias_table"},
}


@pytest.mark.slow
def test_every_cell_of_a_site_of_every_kind() -> None:
    """The whole site, cell by cell, is what was recorded."""
    assert set().union(*WHOLE.values()) == set(get_args(Kind)) - {"tokenize", "round"}
    for (family, shape), kinds in WHOLE.items():
        trace, left = sampled(family, shape), set(kinds)
        for site in trace.catalogue.values():
            if site.operation.kind not in left:
                continue
            left.discard(site.operation.kind)
            array = np.asarray(trace.read(site.address))
            start = trace.start(site.address)
            for place in np.ndindex(array.shape):
                at = (place[0] + start, *place[1:])
                found = explain(trace, cell(site.address, *zip(site.axes, at, strict=True)))
                assert found.agrees, found.address
                assert found.value == array[place] or found.value != found.value
        assert not left, (family, shape)


def some_sites(trace: Trace, numbers: random.Random) -> list[Site]:
    """Of the sites that layers have in common one, in some layer."""
    alike: dict[str, list[Site]] = {}
    for site in trace.catalogue.values():
        if site.part != "tokenizer":
            alike.setdefault(re.sub(r"layers\.\d+", "layers", site.address), []).append(site)
    return [numbers.choice(sites) for sites in alike.values()]


def nothing_is_dropped(found: Any) -> None:
    terms, values = found.terms, found.worked.terms.values
    assert len(terms) == len(values)
    sizes = [abs(term.value) for term in terms]
    assert sizes == sorted(sizes, reverse=True)
    rest = found.rest(2)
    assert rest.count == max(0, len(values) - 2) and found.top(2) == terms[:2]
    if np.isfinite(values).all():
        shown = sum(term.value for term in found.top(2))
        assert shown + rest.sum == pytest.approx(values.sum(), rel=1e-9, abs=1e-12)
        for term in terms[:3]:
            assert np.prod([value for _, value in term.factors]) == pytest.approx(term.value)


def done(program: str) -> float:
    """What a script prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(program, "script", "exec"), {})
    return float({"True": 1, "False": 0}.get(out.getvalue().strip(), out.getvalue()))


def test_captured_values_are_explained_like_recomputed_ones() -> None:
    live, again = sampled("llama", "qwen3", "*"), sampled("llama", "qwen3")
    address = "layers.1.attention.pattern[head=1, query=7, key=2]"
    assert explain(live, address).seen and not explain(again, address).seen
    assert explain(live, address).value == pytest.approx(explain(again, address).value, rel=1e-5)


def test_what_the_run_had_no_need_of_is_said() -> None:
    """A cached run multiplies no query by a key that was not there yet."""
    found = explain(sampled("llama", "qwen3", "*"), "layers.0.attention.products[0, 2, 7]")
    assert found.value != found.value and found.agrees
    assert all(found.note(lang) for lang in LANGUAGES)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("family", "shape"), [CASES[2], CASES[5], CASES[13], ("gemma", "local and global")]
)
def test_the_way_down_ends_at_weights_and_ids(family: str, shape: str) -> None:
    trace = sampled(family, shape)
    last = "head.logits" if "head.logits" in trace.catalogue else list(trace.catalogue)[-1]
    address = f"{last}[{', '.join('1' for _ in trace.site(last).axes)}]"
    found = explain(trace, address, depth=200, breadth=1)
    for _, one in found.walk():
        is_leaf = one.cell.site is None
        assert is_leaf == (one.worked is None)
        if not one.inner and not is_leaf:
            assert not any(at for term in one.top(1) for at, _ in term.factors), one.address
    kinds = {one.cell.kind for _, one in found.walk()}
    assert "parameter" in kinds
    assert explain(trace, address, depth=1, breadth=2).inner
    assert explain(trace, address).inner == ()


def test_a_parameter_and_an_id_say_what_they_are() -> None:
    trace = sampled("bart", "marian")
    weight = explain(trace, "decoder.layers.1.cross_attention.query.weight[out=3, in=-1]")
    table = trace.weight("decoder.layers.1.cross_attention.query.weight")
    assert weight.value == table[3, -1] and weight.agrees and weight.cell.kind == "parameter"
    shape = " × ".join(map(str, table.shape))
    assert all(shape in weight.words(lang) for lang in LANGUAGES)
    id = explain(trace, "encoder.ids[position=2]")
    assert id.value == SOURCE[2] and "w51" in id.words("zh")
    assert explain(trace, "encoder.embedding.tokens.weight[51, 0]").words("en").count("w51") == 1


def test_every_row_has_words_and_a_label() -> None:
    for key in ROWS:
        for lang in LANGUAGES:
            assert sentence(key, lang)[-1] in ".。" and len(label(key, lang)) < 40


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("layers.0.residual_in[-1, 0]", "layers.0.residual_in[position=7, dim=0]"),
        (" layers.0.residual_in[dim=-1,position=2] ", "layers.0.residual_in[position=2, dim=31]"),
        ("sampling.id[-1]", "sampling.id[position=8]"),
        ("sampling.kept[6, 3]", "sampling.kept[position=6, word=3]"),
    ],
)
def test_addresses_are_put_into_one_form(address: str, canonical: str) -> None:
    found = explain(sampled("llama", "llama 2"), address)
    assert found.address == canonical
    assert isinstance(
        found.value, {"id": int, "kept": bool}.get(canonical[9:].split("[")[0], float)
    )


@pytest.mark.parametrize(
    ("address", "key", "said"),
    [
        ("layers.0.attention.pattern", "trace.need_cell", "pattern[head=0, query=0, key=0]"),
        (
            "layers.0.attention.pattern[query=1]",
            "trace.need_cell",
            "pattern[head=0, query=1, key=0]",
        ),
        ("layers.0.attention.pattern[0, 1, :]", "trace.need_cell", "key"),
        ("layers.0.attention.query.weight[out=1]", "trace.need_cell", "in"),
        ("ids", "trace.need_cell", "position"),
        ("layers.0.residual_in[position=99, dim=0]", "trace.outside", "from 0 to 7"),
        ("sampling.id[position=2]", "trace.outside", "from 6 to 8"),
        ("layers.0.residual_in[head=0, dim=0]", "trace.no_such_axis", "position, dim"),
        ("layers.0.residual_in[a][b]", "trace.bad_address", "residual_in[position=0, dim=0]"),
        ("encoder.ids[0]", "trace.bad_address", "encoder.ids"),
        ("tokenizer.pieces[0]", "trace.not_numbers", "tokenizer.pieces"),
    ],
)
def test_what_names_no_number_is_refused(address: str, key: str, said: str) -> None:
    with pytest.raises(TraceError) as caught:
        explain(sampled("llama", "llama 2"), address)
    assert caught.value.key == key and said in str(caught.value)
    assert caught.value.message("zh")


def test_an_unknown_site_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"layers\.0\.attention\.pattern"):
        explain(sampled("llama", "llama 2"), "layers.0.attention.patern[0, 0, 0]")


@settings(max_examples=60, deadline=None)
@given(st.text("layers.0attention[]=:,-1 positndm", max_size=40))
def test_no_text_gives_another_error(text: str) -> None:
    with contextlib.suppress(LucidError):
        explain(sampled("llama", "llama 2"), text)


def test_operands_that_cannot_be_written(tmp_path: Path) -> None:
    found = explain(sampled("llama", "llama 2"), "layers.0.residual_in[1, 1]")
    with pytest.raises(TraceError) as caught:
        found.save_operands(tmp_path / "none" / "x.npz")
    assert caught.value.key == "trace.cannot_write" and not list(tmp_path.iterdir())


def test_the_script_needs_numpy_alone(tmp_path: Path) -> None:
    found = explain(sampled("llama", "llama 2"), "layers.1.feedforward.output[3, 5]")
    found.save_operands(tmp_path / "x.npz")
    program = found.program(tmp_path / "x.npz")
    assert "lucidlm" not in program and found.address in program
    made = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert float(made.stdout) == found.total


def test_an_edited_number_says_so(model: Any) -> None:
    trace = model.trace("The cat sat", edits=[Zero("layers.0.attention.mixed[head=1]")])
    found = explain(trace, "layers.0.attention.mixed[2, 1, 0]")
    assert found.edited and found.value == 0 and found.agrees
    assert found.difference == -found.total != 0 and found.note("zh")
    assert not explain(trace, "layers.0.attention.mixed[2, 0, 0]").edited
