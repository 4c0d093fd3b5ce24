"""Figures of a trace with matplotlib (extra `plot`). Each function returns a Figure of its own;
nothing is shown, and pyplot's state is not touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lucidlm.errors import MissingExtra, TraceError
from lucidlm.locale import text
from lucidlm.reference.equations import wide
from lucidlm.trace.attribution import attribute
from lucidlm.trace.heads import HeadReport, heads, self_attentions, tag_words
from lucidlm.trace.lens import lens
from lucidlm.trace.operations import Array
from lucidlm.trace.run import Run, Token

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELLED = 64  # positions at most that have labels of their own
PARTS = 20  # bars of an attribution; the others are summed in one
SHARES = "cividis"  # from 0 to 1, told apart by every kind of colour vision
FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans CJK JP",
    "Arial Unicode MS",
)
BLUE, ORANGE = "#2166ac", "#b35806"  # below and above 0


def plot_pattern(run: Run, layer: int, head: int | None = None, lang: str = "en") -> Figure:
    """Who looks at whom in one layer's self-attention: head `head`, or the mean over all heads.

    Of two stacks it is the decoder's. Raises TraceError for a layer or head that is not there, and
    MissingExtra without matplotlib.
    """
    sites = [site for site in self_attentions(run) if not site.address.startswith("encoder.")]
    if not 0 <= layer < len(sites):
        key = "lens.no_layer" if sites else "lens.no_layers"
        raise TraceError(key, layer=layer, last=len(sites) - 1, name=run.name)
    address = sites[layer].address
    pattern = np.nan_to_num(wide(run.read(address)))
    if head is not None and not 0 <= head < len(pattern):
        raise TraceError("lens.no_such_head", head=head, last=len(pattern) - 1)
    title = text(
        "lens.plot_pattern_mean" if head is None else "lens.plot_pattern",
        lang,
        address=address,
        head=head,
    )
    weights = pattern.mean(0) if head is None else pattern[head]
    side = 3.5 + 0.2 * min(len(weights), LABELLED)
    with _figure(side + 1, side, lang) as (figure, axes, pen):
        image = axes.imshow(weights, cmap=SHARES, vmin=0.0, interpolation="nearest")
        figure.colorbar(image, ax=axes, label=pen(text("lens.weight", lang)))
        names = _labels(run.tokens[: len(weights)], pen)
        _ticks(axes, names, names)
        axes.set_xlabel(pen(text("lens.key", lang)))
        axes.set_ylabel(pen(text("lens.query", lang)))
        axes.set_title(pen(title), fontsize="medium")
    return figure


def plot_lens(
    run: Run,
    word: str | int | None = None,
    positions: Sequence[int] | None = None,
    lang: str = "en",
) -> Figure:
    """The likeliest word behind every sublayer, by position (nostalgebraist 2020), coloured by its
    probability; with `word`, that word's probability everywhere.

    Raises what `lens` does, and MissingExtra without matplotlib.
    """
    found = lens(run, word, positions, top=1)
    rows = found.rows[::-1]  # the model's own answer above
    if word is None:
        shares = [[reading.top[0].probability for reading in row.readings] for row in rows]
    else:
        shares = [[reading.probability for reading in row.readings] for row in rows]
    width = 3.0 + 1.1 * len(found.positions)
    with _figure(width, 1.5 + 0.28 * len(rows), lang) as (figure, axes, pen):
        image = axes.imshow(shares, cmap=SHARES, vmin=0.0, vmax=1.0, aspect="auto")
        figure.colorbar(image, ax=axes, label=pen(text("lens.probability", lang)))
        for y, row in enumerate(rows):
            for x, reading in enumerate(row.readings):
                colour = "black" if shares[y][x] > 0.5 else "white"
                said = _visible(reading.top[0].label) if word is None else f"{reading.rank}"
                axes.text(x, y, pen(said), ha="center", va="center", color=colour, fontsize=8)
        tokens = [run.tokens[position] for position in found.positions]
        places = [text(f"lens.place_{row.place}", lang, layer=row.layer) for row in rows]
        _ticks(axes, _labels(tokens, pen), [pen(place) for place in places])
        axes.set_xlabel(pen(text("lens.position", lang)))
        axes.set_title(pen(text("lens.plot_lens", lang)), fontsize="medium")
    return figure


def plot_attribution(
    run: Run,
    word: str | int | None = None,
    position: int | None = None,
    *,
    by_head: bool = False,
    lang: str = "en",
) -> Figure:
    """What wrote one logit: its `PARTS` largest parts, in order of computation, and the rest in
    one bar.

    Raises what `attribute` does, and MissingExtra without matplotlib.
    """
    found = attribute(run, word, position, by_head=by_head)
    largest = sorted(found.parts, key=lambda part: -abs(part.value))[:PARTS]
    bars = [(part.name, part.value) for part in found.parts if part in largest]
    if left := [part.value for part in found.parts if part not in largest]:
        bars.append((text("lens.other_parts", lang, count=len(left)), float(sum(left))))
    with _figure(8.0, 1.5 + 0.26 * len(bars), lang) as (figure, axes, pen):
        values = [value for _, value in bars]
        colours = [ORANGE if value > 0 else BLUE for value in values]
        axes.barh(range(len(bars)), values, color=colours)
        axes.set_yticks(range(len(bars)), [pen(name) for name, _ in bars], fontsize=8)
        axes.invert_yaxis()
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.set_xlabel(pen(text("lens.contribution", lang)))
        title = text(
            "lens.plot_attribution",
            lang,
            word=found.label,
            position=found.position,
            logit=found.logit,
        )
        axes.set_title(pen(title), fontsize="medium")
    return figure


def plot_heads(run: Run, lang: str = "en") -> Figure:
    """The entropy of every head of the stack that writes (an encoder's own, where there is no
    other), with the tags of those that have one.

    Raises what `heads` does, and MissingExtra without matplotlib.
    """
    found = [one for one in heads(run) if not one.address.startswith("encoder.")]
    grid = _grid(found)
    high, wide_ = grid.shape
    with _figure(2.5 + 0.95 * wide_, 1.6 + 0.42 * high, lang) as (figure, axes, pen):
        image = axes.imshow(grid, cmap=SHARES, vmin=0.0, aspect="auto")
        figure.colorbar(image, ax=axes, label=pen(text("lens.entropy", lang)))
        middle = np.nanmax(grid) / 2
        for one in found:
            said = "\n".join(pen(tag_words(tag, lang)) for tag in one.tags)
            colour = "black" if one.entropy > middle else "white"
            at: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6, "color": colour}
            axes.text(one.head, one.layer, said, **at)
        _ticks(axes, [str(n) for n in range(wide_)], [str(n) for n in range(high)], turned=False)
        axes.set_xlabel(pen(text("lens.head", lang)))
        axes.set_ylabel(pen(text("lens.layer", lang)))
        axes.set_title(pen(text("lens.plot_heads", lang)), fontsize="medium")
    return figure


def _grid(found: Sequence[HeadReport]) -> Array:
    shape = (max(one.layer for one in found) + 1, max(one.head for one in found) + 1)
    grid = np.full(shape, np.nan)
    for one in found:
        grid[one.layer, one.head] = one.entropy
    return grid


class _Pen:
    """Text as the figure's fonts can draw it: anything they have no glyph for is escaped."""

    def __init__(self, families: Sequence[str]) -> None:
        from matplotlib.font_manager import FontProperties, findfont, get_font

        paths = [findfont(FontProperties(family=[family])) for family in families]
        self.glyphs = {code for path in paths for code in get_font(path).get_charmap()}

    def __call__(self, said: str) -> str:
        drawn = "".join(self._drawn(character) for character in said)
        return drawn.replace("$", r"\$")  # which would begin a formula

    def _drawn(self, character: str) -> str:
        if character.isprintable() and ord(character) in self.glyphs:
            return character
        return character.encode("unicode_escape").decode()


@contextmanager
def _figure(width: float, height: float, lang: str) -> Iterator[tuple[Figure, Axes, _Pen]]:
    """A figure with one pair of axes, laid out when it is drawn."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtra("plot", "matplotlib") from None
    families = _families()
    with matplotlib.rc_context({"font.family": families}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot(), _Pen(families)


def _families() -> list[str]:
    """Matplotlib's own font, and behind it one that has Chinese, if there is one."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in FONTS if name in installed][:1]]


def _labels(tokens: Sequence[Token], pen: _Pen) -> list[str]:
    return [pen(f"{_visible(token.label)}  {token.position}") for token in tokens]


def _visible(label: str) -> str:
    return label.replace(" ", "␣") or "∅"


def _ticks(axes: Axes, across: Sequence[str], down: Sequence[str], turned: bool = True) -> None:
    """Labels along both axes; of a long one only every so many."""
    for labels, put in ((across, axes.set_xticks), (down, axes.set_yticks)):
        step = -(-len(labels) // LABELLED)
        options: dict[str, Any] = {"fontsize": 8}
        if put == axes.set_xticks and turned:
            options |= {"rotation": 90}
        put(range(0, len(labels), step), list(labels[::step]), **options)
