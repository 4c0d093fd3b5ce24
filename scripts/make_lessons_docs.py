"""Writes docs/lessons.md and docs/zh/lessons.md: what lessons there are, and one of them as the
terminal shows it. A test holds them current.
"""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from lucidlm.lessons.shelf import names
from lucidlm.lessons.shelf import page as prose
from lucidlm.lessons.telling import tell
from lucidlm.locale import LANGUAGES
from lucidlm.terminal.lesson import draw_lesson

SHOWN = "one-word"
WIDTH = 88  # columns
DOCS = Path(__file__).parent.parent / "docs"
PATHS = {"en": DOCS / "lessons.md", "zh": DOCS / "zh" / "lessons.md"}
TEXTS = {
    "en": {
        "title": "Lessons",
        "intro": "A lesson is a guided walk in the terminal. Every number in it is computed while "
        "you read, by the engine that runs every other model here. Where the articles that the "
        "lessons follow simplify or err, their figure stands beside the true one, with the reason.",
        "heads": "| lesson | what it is about |",
        "run": "How to take one",
        "list": "# the list",
        "take": "# take one; --lang zh for Chinese",
        "json": "# the same for a program",
        "code": "# its script, to run and change",
        "scripts": "`attention-by-hand`, `one-head`, `one-layer`, `one-word` and "
        "`encoder-decoder`: these scripts grow from each other in this order, and need nothing but "
        "NumPy.",
        "checkpoint": "The models of `one-word` and `encoder-decoder` are set by hand. They are "
        "checkpoint folders like any other, and without PyTorch they run on NumPy alone:",
        "comment": "# how likely each word was",
        "curves": "The loss curves that `parts` compares: the whole Transformer, and each time one "
        "part fewer. `make parts` trains them all again.",
        "recorded": "`{name}`, as the terminal shows it",
    },
    "zh": {
        "title": "课程",
        "intro": "一课就是在终端里的一次导览。里面的每个数都是在你读的时候算出来的，"
        "用的就是运行这里其他所有模型的引擎。课程所依据的文章如有简化或出错，"
        "文章的数字旁边就是真实的数字，并说明原因。",
        "heads": "| 课程 | 内容 |",
        "run": "怎样上一课",
        "list": "# 列表",
        "take": "# 上一课；--lang zh 为中文",
        "json": "# 同样的内容，供程序使用",
        "code": "# 这一课的脚本，可以运行，也可以改",
        "scripts": "`attention-by-hand`、`one-head`、`one-layer`、`one-word`、`encoder-decoder`："
        "这几个脚本依次一个从一个长出来，只需要 NumPy。",
        "checkpoint": "`one-word` 和 `encoder-decoder` 的模型是亲手设定的。"
        "它们和别的检查点文件夹没有两样，没有 PyTorch 时只用 NumPy 也能运行：",
        "comment": "# 每个词的概率",
        "curves": "`parts` 所比较的损失曲线：完整的 Transformer，以及每次少一个部件的模型。"
        "`make parts` 会把它们全部重新训练一遍。",
        "recorded": "终端里的 `{name}`",
    },
}
EXAMPLE = """import tempfile

import lucidlm
from lucidlm.lessons.one_word.model import write

model = lucidlm.load(str(write(tempfile.mkdtemp())))
text = model.generate("我")
print(text)
print([round(token.probability, 4) for token in text.tokens])  {comment}"""


def page(lang: str) -> str:
    """The whole page in one language."""
    text = TEXTS[lang]
    commands = (("", "list"), (f" {SHOWN}", "take"), (f" {SHOWN} --json", "json"))
    lines = [
        f"$ lucidlm lesson{rest:17} {text[key]}"
        for rest, key in (*commands, (f" {SHOWN} --code", "code"))
    ]
    rows = [f"| `{name}` | {prose(name, lang).title} |" for name in names()]
    sections = [
        f"# {text['title']}",
        text["intro"],
        "\n".join([text["heads"], "| --- | --- |", *rows]),
        f"## {text['run']}",
        _block("console", "\n".join(lines)),
        text["scripts"],
        text["checkpoint"],
        _block("python", EXAMPLE.format(comment=text["comment"])),
        text["curves"],
        f"![{prose('parts', lang).title}]({'../' if lang == 'zh' else ''}parts.png)",
        f"## {text['recorded'].format(name=SHOWN)}",
        _block("text", recorded(SHOWN, lang)),
    ]
    return "\n\n".join(sections) + "\n"


def recorded(name: str, lang: str) -> str:
    """A lesson as the terminal shows it, without colours."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, legacy_windows=False)
    draw_lesson(console, tell(name, lang))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).rstrip()


def _block(language: str, content: str) -> str:
    return f"```{language}\n{content}\n```"


def main() -> None:
    for lang in LANGUAGES:
        PATHS[lang].write_text(page(lang), encoding="utf-8")


if __name__ == "__main__":
    main()
