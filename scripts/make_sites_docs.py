"""Writes docs/sites.md and docs/zh/sites.md: every site that a model can have, from the table of
sites and their words. A test holds them current.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lucidlm.config import Config
from lucidlm.engine import Rounding
from lucidlm.families import families
from lucidlm.locale import LANGUAGES
from lucidlm.parameters import parameters
from lucidlm.trace.rows import ROWS
from lucidlm.trace.sites import catalogue
from lucidlm.trace.words import label, sentence

DOCS = Path(__file__).parent.parent / "docs"
PATHS = {"en": DOCS / "sites.md", "zh": DOCS / "zh" / "sites.md"}
OTHER = {"en": "zh/sites.md", "zh": "../sites.md"}
AXES = ("position", "dim", "head", "head_dim", "query", "key", "hidden", "word", "pretoken")
GROUPS = (  # of rows, in the order of the computation
    "tokenizer",
    "embedding",
    "layer",
    "norm",
    "rms",
    "attention",
    "head_norm",
    "head_rms",
    "add_norm",
    "feedforward",
    "head",
    "pooler",
    "sampling",
)
TEXTS = {
    "en": {
        "title": "All sites",
        "other": "中文",
        "intro": "Every place in a computation that has a name, in all kinds of models. A model "
        "has those of its own architecture; `lucidlm sites MODEL` lists them with their sizes. "
        "What to do with them is in [The glass](glass.md).",
        "letters": "In the equations p is a position, d and e are dimensions, h is a head, i and j "
        "are places inside it (j in a feed-forward: an inner unit), q is a position that asks, k "
        "one that is looked at, w and v are words of the vocabulary. x is what the site reads, n "
        "how many numbers it has, m the largest of them, f the activation function, f[i] the angle "
        "from one position to the next. W, b, `table`, `weight` and `bias` are parameters. A term "
        "that a model does not have (a bias, a segment) drops out. With an encoder and a decoder, "
        "the addresses of embedding, layers and final norm begin with `encoder.` or `decoder.`. "
        "Rounded sites are there where the engine rounds what it multiplies with a model's "
        "weights, to 8 bits or (`_bfloat16` behind the noun) to bfloat16.",
        "axes": "Axes",
        "axis": "| axis | runs over |",
        "heads": "| noun | axes | equation | what it is |",
        "at": "Under ",
        "comma": ", ",
        "colon": ": ",
        "none": "–",
        "axis.position": "positions of the sequence, counted from 0; of `sampling.*` only those of "
        "chosen tokens",
        "axis.dim": "the width of the residual stream",
        "axis.head": "attention heads; keys and values may have fewer than queries",
        "axis.head_dim": "the width of one head",
        "axis.query": "positions that ask",
        "axis.key": "positions that are looked at",
        "axis.hidden": "inner units of the feed-forward",
        "axis.word": "the vocabulary",
        "axis.pretoken": "stretches of text that the tokenizer splits first",
        "tokenizer": "The tokenizer",
        "embedding": "The embedding",
        "layer": "The residual stream",
        "norm": "LayerNorm",
        "rms": "RMSNorm",
        "head_norm": "LayerNorm in a head",
        "head_rms": "RMSNorm in a head",
        "attention": "Attention",
        "add_norm": "The residual sum",
        "feedforward": "The feed-forward",
        "head": "The head",
        "pooler": "The pooler",
        "sampling": "Sampling",
    },
    "zh": {
        "title": "全部观测点",
        "other": "English",
        "intro": "各类模型的计算过程中，凡是有名字的地方都在这里。"
        "一个模型有哪些，由它自己的结构决定；`lucidlm sites MODEL` 列出它们和各自的大小。"
        "怎样使用，见[玻璃](glass.md)。",
        "letters": "公式中 p 是位置，d 和 e 是维度，h 是注意力头，i 和 j 是头内的下标"
        "（前馈网络中的 j 是内部单元），q 是发问的位置，k 是被看的位置，w 和 v 是词表中的词。"
        "x 是这个观测点读入的值，n 是其中数的个数，m 是其中最大的数，f 是激活函数，"
        "f[i] 是每前进一个位置所转的角度。W、b、`table`、`weight` 和 `bias` 是参数。"
        "模型没有的项（偏置、片段）就不出现。既有编码器又有解码器的模型，"
        "嵌入、各层和最终归一化的地址以 `encoder.` 或 `decoder.` 开头。"
        "舍入后的观测点，只有当引擎把与权重相乘的数舍入到 8 位或 bfloat16"
        "（名称后加 `_bfloat16`）时才有。",
        "axes": "轴",
        "axis": "| 轴 | 沿着什么 |",
        "heads": "| 名称 | 轴 | 公式 | 是什么 |",
        "at": "位于：",
        "comma": "、",
        "colon": "：",
        "none": "–",
        "axis.position": "序列中的位置，从 0 数起；`sampling.*` 只有选出的词元的位置",
        "axis.dim": "残差流的宽度",
        "axis.head": "注意力头；键和值的头可以比查询的少",
        "axis.head_dim": "一个头的宽度",
        "axis.query": "发问的位置",
        "axis.key": "被看的位置",
        "axis.hidden": "前馈网络的内部单元",
        "axis.word": "词表",
        "axis.pretoken": "分词器首先切出的各段文本",
        "tokenizer": "分词器",
        "embedding": "嵌入",
        "layer": "残差流",
        "norm": "LayerNorm",
        "rms": "RMSNorm",
        "head_norm": "头内的 LayerNorm",
        "head_rms": "头内的 RMSNorm",
        "attention": "注意力",
        "add_norm": "残差相加",
        "feedforward": "前馈网络",
        "head": "输出头",
        "pooler": "池化层",
        "sampling": "采样",
    },
}


def page(lang: str) -> str:
    """The whole page in one language."""
    text = TEXTS[lang]
    axes = [f"| `{axis}` | {text[f'axis.{axis}']} |" for axis in AXES]
    sections = [
        f"# {text['title']}",
        f"{text['intro']} [{text['other']}]({OTHER[lang]})",
        text["letters"],
        f"## {text['axes']}",
        "\n".join([text["axis"], "| --- | --- |", *axes]),
    ]
    found = sites()
    for group in GROUPS:
        keys = [key for key in ROWS if key.partition(".")[0] == group]
        places = sorted({place for key in keys for place, _ in found[key]})
        rows = [_row(key, min(found[key])[1], lang) for key in keys]
        where = text["comma"].join(f"`{place}`" for place in places)
        sections += [
            f"## {text[group]}",
            f"{text['at']}{where}",
            "\n".join([text["heads"], "| --- | --- | --- | --- |", *rows]),
        ]
    return "\n\n".join(sections) + "\n"


def sites() -> dict[str, set[tuple[str, str]]]:
    """By row: every (place, noun) at which some model has it, with * for the number of a layer and
    without the name of a stack.
    """
    found: dict[str, set[tuple[str, str]]] = {}
    for config in _configs():
        rounding: dict[str, Rounding] = dict.fromkeys(parameters(config), "int8")
        for site in catalogue(config, rounding).values():
            general = re.sub(r"\.\d+\.", ".*.", site.address)
            place, _, noun = re.sub(r"^(encoder|decoder)\.", "", general).rpartition(".")
            found.setdefault(site.key, set()).add((place, noun))
    return found


def _configs() -> Iterator[Config]:
    """Small models of every family, and those that no family has yet: heads with a LayerNorm."""
    for family in families().values():
        for hf in family.tiny.values():
            config = family.read(hf)
            yield config
            stack = config.decoder
            if stack is not None and stack.attention.qk_norm is not None:
                norm = replace(stack.attention.qk_norm, kind="layer")
                attention = replace(stack.attention, qk_norm=norm)
                yield replace(config, decoder=replace(stack, attention=attention))


def _row(key: str, noun: str, lang: str) -> str:
    row, text = ROWS[key], TEXTS[lang]
    axes = ", ".join(f"`{axis}`" for axis in row.axes) or text["none"]
    words = sentence(key, lang)
    return (
        f"| `{noun}` | {axes} | `{row.equation}` | **{label(key, lang)}**{text['colon']}{words} |"
    )


def main() -> None:
    for lang in LANGUAGES:
        PATHS[lang].write_text(page(lang), encoding="utf-8")


if __name__ == "__main__":
    main()
