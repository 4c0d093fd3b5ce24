"""Measures every family against transformers and writes docs/families.md and docs/zh/families.md.

`make families` runs it. The cases are those of tests/test_golden_logits.py; the figures are
the ones that its tests bound, measured again.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from golden import CASES, Golden, difference, golden, hugging_face, widened  # noqa: E402

from lucidlm.config import Config  # noqa: E402
from lucidlm.families import families  # noqa: E402

TEXTS = ROOT / "scripts" / "families.json"
MODELS = {
    "bart": "BART, Marian, Transformer (2017)",
    "bert": "BERT, MiniLM",
    "gemma": "Gemma 3",
    "gpt2": "GPT-2, GPT-3",
    "llama": "Llama 2/3, Mistral, Qwen2, Qwen3, SmolLM",
    "t5": "T5 v1.0, v1.1",
}


def main() -> None:
    measured = [(family, shape, *figures(golden(family, shape))) for family, shape in CASES]
    texts = json.loads(TEXTS.read_text(encoding="utf-8"))
    for lang, folder in (("en", ROOT / "docs"), ("zh", ROOT / "docs" / "zh")):
        page = "\n".join(lines(texts[lang], measured)) + "\n"
        (folder / "families.md").write_text(page, encoding="utf-8")


def figures(case: Golden) -> tuple[str, float, float, float]:
    """What is special about it, and max|difference| / max|logit|: float32, float64, widened."""
    theirs = case.their_output(case.theirs)
    narrow = difference(case.our_output(case.engine()), theirs)
    ours = case.our_output(case.engine("float64"))
    with widened():
        wide = case.their_output(hugging_face(case.hf))
    return (
        shape_of(case.checkpoint.config),
        narrow,
        difference(ours, theirs),
        difference(ours, wide),
    )


def shape_of(config: Config) -> str:
    """Heads, key/value heads and width: what differs most between the cases."""
    stack = config.decoder or config.encoder
    assert stack is not None
    attention = stack.attention
    layers = "+".join(str(s.layers) for s in config.stacks.values())
    return f"{layers} × {config.dim}, {attention.heads}/{attention.kv_heads} × {attention.head_dim}"


def lines(
    text: dict[str, str], measured: list[tuple[str, str, str, float, float, float]]
) -> Iterator[str]:
    yield f"# {text['title']}"
    yield ""
    yield f"<!-- {text['generated']} -->"
    yield ""
    yield text["intro"].format(
        transformers=transformers.__version__,
        torch=torch.__version__.partition("+")[0],
        machine=platform.machine(),
    )
    for name, family in families().items():
        if not family.tiny:
            continue  # nobody else's format: there is nothing to compare it with
        yield ""
        yield f"## {MODELS[name]}"
        yield ""
        presets = ", ".join(f"`{preset}`" for preset in family.presets)
        yield text["file"].format(file=f"lucidlm/families/{name}.py", presets=presets)
        yield ""
        yield text["head"]
        yield "| --- | --- | ---: | ---: | ---: |"
        for row_family, shape, what, narrow, wide, exact in measured:
            if row_family == name:
                yield f"| {shape} | {what} | {narrow:.1e} | {wide:.1e} | {exact:.1e} |"


if __name__ == "__main__":
    main()
