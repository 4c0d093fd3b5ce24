"""The one-file report: well formed, closed in itself, safe for any text, and only true numbers."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from golden import CASES
from recorded import plain

import lucidlm
from lucidlm.errors import LucidError, TraceError
from lucidlm.trace.backing import Live
from lucidlm.trace.edits import Zero
from lucidlm.trace.explain import explain
from lucidlm.trace.lens import lens
from lucidlm.trace.report import html, write_html
from lucidlm.trace.report.maps import heat_maps, spread
from lucidlm.trace.trace import Trace

PROMPT = "我爱你 </script><script>alert(1)</script> <!-- {{data}} & the cat"
FIRST = list({family: (family, shape) for family, shape in reversed(CASES)}.values())
VOID = {"meta", "input", "br", "link", "img"}
NAMESPACES = re.compile(r'xmlns=\\?"http://www\.w3\.org/1998/Math/MathML\\?"')


class Reader(HTMLParser):
    """Checks that elements nest, and keeps what scripts and attributes hold."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


def read(page: str) -> tuple[Reader, dict[str, Any]]:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader, json.loads(reader.scripts[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    model = lucidlm.load(str(tiny.build(tmp_path_factory.mktemp("report") / "m", positions=128)))
    return model.trace(PROMPT, max_new_tokens=4, temperature=0.8, top_k=20, seed=3)


def test_the_page_is_well_formed_and_closed_in_itself(run: Trace) -> None:
    address = f"layers.1.residual_out[position={run.length - 1}, dim=0]"
    page = html(run, [address])
    reader, data = read(page)
    assert len(reader.scripts) == 2
    assert len(set(reader.ids)) == len(reader.ids)
    assert not {"src", "href", "srcset", "action"} & {name for name, _ in reader.attributes}
    outside = NAMESPACES.sub("", page.replace(json.dumps(PROMPT, ensure_ascii=False)[1:-1], ""))
    assert not re.search(r"https?:", outside)
    assert not re.search(r"""(?:["'(=]\s*|url\()//""", outside)
    assert "@import" not in page and "import(" not in page and "fetch(" not in page
    assert "Math.random" not in page
    assert "{{" not in re.sub(r"[\w{}]*\{\{data\}\}", "", page).replace(PROMPT, "")
    assert data["words"]["shown"]


def test_text_from_outside_cannot_leave_the_data(run: Trace) -> None:
    named = replace(run, header=replace(run.header, name="</title><script>alert(2)</script>"))
    page = html(named)
    reader, data = read(page)
    assert len(reader.scripts) == 2
    assert "alert(1)" not in reader.scripts[1]
    assert "".join(token["label"] for token in data["tokens"]).count("<") >= 3
    assert data["name"] == named.name
    assert page.count("<script") == 2 and page.count("</script") == 2


def test_every_id_of_the_script_is_on_the_page(run: Trace) -> None:
    reader, _ = read(html(run))
    asked = set(re.findall(r'(?:\$|fill|ribbon)\(\s*"([\w-]+)"', reader.scripts[1]))
    assert len(asked) > 20
    assert asked <= set(reader.ids)


def test_the_page_says_everything_in_both_languages(run: Trace) -> None:
    for lang, kept in (("en", "Every number on this page"), ("zh", "本页的每个数字")):
        page = html(run, lang=lang)
        reader, data = read(page)
        assert f">{kept}" in page
        assert set(data["texts"]) == {"en", "zh"}
        assert set(data["texts"]["en"]) == set(data["texts"]["zh"])
        spoken = re.findall(r'say\(\s*"(\w+)"', reader.scripts[1])
        assert set(spoken) <= set(data["texts"]["en"])
        assert not re.search(r"say\(\s*[^\"\s]", reader.scripts[1].replace("say = (", ""))
        for name, fields in re.findall(r'say\(\s*"(\w+)",\s*\{([^}]*)\}', reader.scripts[1]):
            wanted = set(re.findall(r"\{(\w+)\}", data["texts"]["en"][name]))
            given = {field.partition(":")[0].strip() for field in fields.split(",")}
            assert wanted <= given, name


def test_only_numbers_from_the_trace(run: Trace) -> None:
    _, data = read(html(run))
    word = data["words"]["shown"][-1]
    position = word["from"]
    assert position == run.length - 1
    vectors = [*word["input"], word["output"]]
    for number, layer in enumerate(word["layers"]):
        vectors += [layer[noun] for noun in ("before", "read", "wrote", "after")]
        vectors += [layer["attention"]["wrote"], layer["attention"]["sum"]]
        for link in layer["attention"]["links"]:
            pattern = run[f"layers.{number}.attention.pattern"][:, position, link["key"]]
            assert link["weight"] == pytest.approx(float(pattern.max()), rel=1e-5)
            assert pattern[link["head"]] == pattern.max()
        for unit in layer["units"]["strongest"]:
            value = run[layer["units"]["address"]][position, unit["at"]]
            assert unit["value"] == pytest.approx(float(value), rel=1e-5)
    for one in vectors:
        values = run[one["address"]][position].astype(np.float64)
        assert one["first"] == pytest.approx(values[:8].tolist(), rel=1e-5)
        assert one["length"] == pytest.approx(float(np.linalg.norm(values)), rel=1e-5)
    sampled, choice = run.sampled(position + 1), word["choice"]
    assert choice["mode"] == "drawn" and choice["draw"] == pytest.approx(sampled.draw, rel=1e-5)
    assert choice["low"] <= choice["draw"] <= choice["high"]
    assert sum(n for _, n in choice["cuts"]) + choice["kept"] == sampled.logits.size
    for one in choice["candidates"]:
        assert one["plain"] == pytest.approx(sampled.plain_probabilities[one["id"]], rel=1e-5)
        assert one["final"] == pytest.approx(sampled.probabilities[one["id"]], rel=1e-5)
        assert one["cut"] == sampled.cut_by(one["id"])
    last = lens(run, positions=[position]).rows[-1].readings[0]
    assert word["lens"][-1]["rank"] == last.rank
    assert word["lens"][-1]["top"][0][0] == last.top[0].label


def unpacked(one: dict[str, Any]) -> np.ndarray:
    packed = zlib.decompress(b64decode(one["data"]))
    return np.frombuffer(packed, np.uint8).reshape(one["shape"])


@pytest.mark.parametrize(("family", "shape"), FIRST)
def test_every_family_has_its_page(family: str, shape: str) -> None:
    run = plain(family, shape)
    _, data = read(html(run))
    words = data["words"]
    assert words["every"] == (len(run.chosen) or run.length)
    patterns = [site for site in run.catalogue.values() if site.key == "attention.pattern"]
    assert data["maps"]["every"] == len(patterns) == len(data["maps"]["shown"])
    for one in data["maps"]["shown"]:
        pattern = run[one["address"]]
        assert np.abs(unpacked(one) / 255 - pattern).max() <= 0.5 / 255 + 1e-6
        for q, k in np.argwhere(pattern.sum(0) == 0):
            assert one["mask"] == "causal" and (k > q or family == "gemma")
    crosses = bool(run.sources)
    for word in words["shown"]:
        assert all((layer["cross"] is not None) == crosses for layer in word["layers"])
        assert word["output"] is not None and word["input"]
    if run.config is not None and run.config.head is None:
        assert words["shown"][0]["choice"] is None and data["surprise"] == []


def test_a_budget_leaves_out_layers_and_patterns_choose_them() -> None:
    run = plain(*FIRST[-1])
    every = heat_maps(run, None, 10**9)
    size = sum(len(one["data"]) for one in every["shown"])
    fewer = heat_maps(run, None, size - 1)
    assert 0 < len(fewer["shown"]) < len(every["shown"])
    assert sum(len(one["data"]) for one in fewer["shown"]) < size
    assert heat_maps(run, None, 0)["shown"] == []
    one = heat_maps(run, ["*layers.0.attention.pattern"], 0)["shown"]
    assert all(".0." in found["address"] for found in one) and one
    with pytest.raises(LucidError):
        heat_maps(run, ["layers.99.*"], 0)
    assert spread(10, 4) == (0, 3, 6, 9) and spread(7, 1) == (6,)


def test_explanations_are_on_the_page_with_their_operands(run: Trace) -> None:
    last = run.length - 1
    asked = [
        f"layers.0.attention.pattern[head=1, query={last}, key=0]",
        f"sampling.probabilities[position={last + 1}, word={run.ids[last + 1]}]",
    ]
    _, data = read(html(run, asked))
    assert data["asked"] == asked
    for address in asked:
        card, own = data["cards"][address], explain(run, address)
        assert card["value"] == own.value and card["total"] == own.total
        assert card["difference"] == own.difference and card["agrees"]
        assert card["words"] == {lang: own.words(lang) for lang in ("en", "zh")}
        assert "<math" in card["mathml"]
    assert len(data["cards"]) > len(asked)
    with pytest.raises(LucidError):
        html(run, ["layers.0.no_such[position=0]"])


def test_a_trace_without_its_model_shows_what_it_has(run: Trace) -> None:
    _, data = read(html(replace(run, engine=None)))
    word = data["words"]["shown"][0]
    assert word["lens"] == [] and word["layers"][0]["wrote"] is None
    assert word["layers"][0]["before"] is not None
    assert word["choice"]["candidates"]
    assert data["maps"]["shown"] == []


def test_edits_and_counts_have_a_page(tmp_path: Path) -> None:
    model = lucidlm.load(str(tiny.build(tmp_path / "m", "gpt2")))
    _, data = read(html(model.trace("a cat", edits=[Zero("layers.0.attention.output")])))
    assert data["edits"] == [{"kind": "zero", "address": "layers.0.attention.output"}]
    from lucidlm.classical.ngram import NGram

    text = tmp_path / "dog.ngram"
    NGram.from_text("the dog sat on the mat\nthe dog ran", 2).save(text)
    _, data = read(html(lucidlm.load(str(text)).trace("the dog", max_new_tokens=2)))
    assert data["kind"] == "counts" and data["words"]["shown"][0]["layers"] == []
    assert data["words"]["shown"][0]["choice"]["candidates"]


def test_a_file_is_written_whole(run: Trace, tmp_path: Path) -> None:
    write_html(run, tmp_path / "page.html", lang="zh")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == html(run, lang="zh") and '<html lang="zh-Hans">' in page
    assert isinstance(run.backing, Live)
    with pytest.raises(TraceError):
        write_html(run, tmp_path / "none" / "page.html")
