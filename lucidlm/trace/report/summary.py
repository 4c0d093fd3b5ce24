"""What a trace is of: its model, its tokens, how surprising each was, its settings and edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from lucidlm.errors import TraceError
from lucidlm.generate.settings import SamplingSettings
from lucidlm.locale import LANGUAGES
from lucidlm.trace.heads import TAGS, heads, tag_formula, tag_words, tokens
from lucidlm.trace.numbers import short
from lucidlm.trace.run import Run, Token


def summary(run: Run) -> dict[str, Any]:
    """Everything about a run but its words' stages."""
    return {
        "name": run.name,
        "kind": "counts" if run.config is None else run.config.kind,
        "dtype": run.dtype,
        "text": run.text,
        "length": run.length,
        "prompt_length": run.prompt_length,
        "settings": _settings(run),
        "edits": [edit.to_json() for edit in run.edits],
        "tokens": _tokens(run.tokens),
        "sources": _tokens(run.sources),
        "surprise": _surprise(run),
        "heads": _heads(run),
        "tags": {
            tag: {lang: [tag_words(tag, lang), tag_formula(tag, lang)] for lang in LANGUAGES}
            for tag in TAGS
        },
    }


def _tokens(found: Sequence[Token]) -> list[dict[str, Any]]:
    return [
        {
            "id": token.id,
            "label": token.label,
            "bytes": token.bytes.hex(" ").upper(),
            "phase": token.phase,
            "chosen": token.chosen,
        }
        for token in found
    ]


def _settings(run: Run) -> list[list[Any]]:
    """The sampling settings that are not the usual ones, by name."""
    if run.header.settings is None:
        return []
    sampling, usual = run.header.settings.sampling, SamplingSettings()
    found: list[list[Any]] = [["temperature", sampling.temperature]]
    for field in fields(sampling):
        value = getattr(sampling, field.name)
        if value != getattr(usual, field.name) and isinstance(value, int | float):
            found += [[field.name, value]] if field.name != "temperature" else []
    return found


def _surprise(run: Run) -> list[dict[str, Any]]:
    """By position that was read; none where the logits are not to be had."""
    try:
        return [
            {
                "predicts": one.predicts,
                "surprise": short(one.surprise),
                "entropy": short(one.entropy),
            }
            for one in tokens(run)
        ]
    except TraceError:
        return []


def _heads(run: Run) -> list[dict[str, Any]]:
    try:
        found = heads(run)
    except TraceError:
        return []
    return [
        {
            "address": one.address.partition("[")[0],
            "head": one.head,
            "entropy": short(one.entropy),
            "tags": [*one.tags],
        }
        for one in found
    ]
