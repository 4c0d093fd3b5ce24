"""Writes docs/cli.md and docs/zh/cli.md from the program's help; a test holds them current."""

from __future__ import annotations

from pathlib import Path

from lucidlm.cli.build import build
from lucidlm.cli.help import command_help, overview
from lucidlm.cli.table import COMMANDS
from lucidlm.locale import LANGUAGES

WIDTH = 80  # columns
DOCS = Path(__file__).parent.parent / "docs"
PATHS = {"en": DOCS / "cli.md", "zh": DOCS / "zh" / "cli.md"}
TITLES = {"en": "The command line", "zh": "命令行"}
JSON_TITLES = {"en": "With --json", "zh": "使用 --json 时"}
JSON = {
    "en": (
        "Every command with `--json` prints one JSON value on one line of stdout, in UTF-8, and "
        "nothing else (`chat`: one for each line that it reads). When something goes wrong stdout "
        "stays empty; the sentence is on stderr.",
        "`run`, `chat` and `translate`: `model`, `prompt`, `text`, `tokens`, `prompt_tokens`, "
        "`seconds`, `tokens_per_second`, `stop_reason` (`end`, `stop`, `length` or `context`).",
        "A token has `id`, `text`, `bytes` (a list of numbers from 0 to 255), `probability` and "
        "`alternatives`: the five likeliest, each with `id`, `text` and `probability`. "
        "Probabilities are the model's own, over the whole vocabulary and before every sampling "
        "setting. A token that is only part of a character shows its bytes as escapes: `\\xE5`.",
        "With `--steps` a token also has `stages`, or null where the model has none, and `draw`, "
        "the random number.",
        "`sites` and `lesson` without a name print one JSON list of objects. `trace` has `tokens` "
        "(each with `position`, `phase`, `step`, `probability`, `bits`, `entropy`), `sources`, "
        "`lens`, `heads`, `edits` and `files`. `explain` has `equation`, `expression`, `terms`, "
        "`rest`, `total`, `value`, `difference`, `agrees`, `inner` and, for a word's probability, "
        "`why`. `verify` has `model`, `positions`, `sites`, `values`, `max_relative`, "
        "`worst_address` and `failed`, and the exit code 1 where that is not 0.",
    ),
    "zh": (
        "每个命令加上 `--json` 后，只在标准输出上打印一行 UTF-8 编码的 JSON，别无其他"
        "（`chat` 每读一行打印一个）。出错时标准输出为空，错误信息写在标准错误中。",
        "`run`、`chat` 和 `translate`：`model`、`prompt`、`text`、`tokens`、`prompt_tokens`、"
        "`seconds`、`tokens_per_second`、`stop_reason`（`end`、`stop`、`length` 或 `context`）。",
        "每个词元有 `id`、`text`、`bytes`（0 到 255 的数字列表）、`probability` 和 "
        "`alternatives`：最可能的五个，各有 `id`、`text` 和 `probability`。概率是模型自己的，"
        "在整个词表上计算，不受任何采样设置影响。"
        "只是字的一部分的词元，其字节显示为转义：`\\xE5`。",
        "加上 `--steps` 后，词元还有 `stages`（没有这些阶段的模型为 null）和抽到的随机数 `draw`。",
        "`sites` 和不带名称的 `lesson` 打印一个由对象组成的 JSON 列表。`trace` 有 `tokens`"
        "（每个有 `position`、`phase`、`step`、`probability`、`bits`、`entropy`）、`sources`、"
        "`lens`、`heads`、`edits` 和 `files`。`explain` 有 `equation`、`expression`、`terms`、"
        "`rest`、`total`、`value`、`difference`、`agrees`、`inner`，对词的概率还有 `why`。"
        "`verify` 有 `model`、`positions`、`sites`、`values`、`max_relative`、`worst_address` 和 "
        "`failed`；`failed` 不为 0 时退出码是 1。",
    ),
}


def page(lang: str) -> str:
    """The whole page in one language."""
    sections = [f"# {TITLES[lang]}", _block(overview(lang, WIDTH))]
    for name in COMMANDS:
        sections += [f"## {name}", _block(command_help(name, build(name).params, lang, WIDTH))]
    sections += [f"## {JSON_TITLES[lang]}", *JSON[lang]]
    return "\n\n".join(sections) + "\n"


def _block(content: str) -> str:
    return f"```text\n{content}\n```"


def main() -> None:
    for lang in LANGUAGES:
        PATHS[lang].parent.mkdir(parents=True, exist_ok=True)
        PATHS[lang].write_text(page(lang), encoding="utf-8")


if __name__ == "__main__":
    main()
