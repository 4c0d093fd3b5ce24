"""Figures: what they show, and that every letter in them can be drawn (a missing glyph warns, and
warnings are errors here).
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
import tiny
from recorded import plain

import lucidlm
from lucidlm.errors import MissingExtra, TraceError
from lucidlm.locale import LANGUAGES
from lucidlm.trace import plot
from lucidlm.trace.attribution import attribute
from lucidlm.trace.heads import heads
from lucidlm.trace.lens import lens
from lucidlm.trace.trace import Trace

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """A run over Chinese characters in pieces, a formula's sign and a line's end."""
    folder = tiny.build(tmp_path_factory.mktemp("plot") / "m", "llama")
    return lucidlm.load(str(folder)).trace("我爱$你\n醨 🙂 cat", max_new_tokens=2)


def drawn(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def test_a_pattern(run: Trace) -> None:
    for head in (None, 1):
        figure = plot.plot_pattern(run, 1, head)
        assert drawn(figure).startswith(b"\x89PNG")
        shown = np.asarray(figure.axes[0].images[0].get_array())
        whole = run["layers.1.attention.pattern"]
        np.testing.assert_allclose(shown, whole.mean(0) if head is None else whole[head], rtol=1e-6)
        labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert len(labels) == run.length
        assert not any("\ufffd" in label or "\n" in label for label in labels)
    with pytest.raises(TraceError, match="layer 9"):
        plot.plot_pattern(run, 9)
    with pytest.raises(TraceError, match="head 9"):
        plot.plot_pattern(run, 0, 9)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_lens(run: Trace, lang: str) -> None:
    figure = plot.plot_lens(run, lang=lang)
    drawn(figure)
    found = lens(run, top=1)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert shown[0, -1] == pytest.approx(found.rows[-1].readings[-1].top[0].probability)
    ranks = plot.plot_lens(run, 5)
    drawn(ranks)
    wanted = str(lens(run, 5).rows[-1].readings[0].rank)
    assert ranks.axes[0].texts[0].get_text() == wanted


@pytest.mark.parametrize("lang", LANGUAGES)
def test_an_attribution(run: Trace, lang: str) -> None:
    figure = plot.plot_attribution(run, by_head=True, lang=lang)
    drawn(figure)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert len(widths) <= plot.PARTS + 1
    assert sum(widths) == pytest.approx(attribute(run).total)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_heads(run: Trace, lang: str) -> None:
    figure = plot.plot_heads(run, lang)
    drawn(figure)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    for one in heads(run):
        assert shown[one.layer, one.head] == pytest.approx(one.entropy)


def test_two_stacks_and_an_encoder() -> None:
    for case in (("t5", "v1.1"), ("bert", "masked words")):
        drawn(plot.plot_pattern(plain(*case), 0))
        drawn(plot.plot_heads(plain(*case)))
        drawn(plot.plot_lens(plain(*case)))


def test_without_a_chinese_font_letters_are_escaped(
    run: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot, "FONTS", ())
    figure = plot.plot_pattern(run, 0)
    drawn(figure)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert any("\\u6211" in label for label in labels)
    assert any(r"\$" in label for label in labels)


def test_no_global_state_is_touched(run: Trace) -> None:
    before = dict(matplotlib.rcParams)
    plot.plot_heads(run)
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not matplotlib.pyplot.get_fignums()


def test_without_matplotlib_the_extra_is_named(run: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match="plot"):
        plot.plot_pattern(run, 0)
