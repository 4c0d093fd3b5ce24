"""`tokenize` and `analogy`: text as pieces, and words as vectors."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lucidlm.cli import options as o
from lucidlm.cli.session import Session
from lucidlm.errors import LucidError

if TYPE_CHECKING:
    from lucidlm.text.explain import TextExplanation
    from lucidlm.text.tokenizer import Tokenizer

VECTORS = "glove-6b-50d"


def tokenize(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="cli.argument_text")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="cli.option_tokenizer")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="bpe|wordpiece|unigram", help="cli.option_kind")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="cli.option_compare")] = False,
    as_json: o.Json = False,
) -> None:
    """Show the way from text to pieces and ids."""
    session: Session = ctx.obj
    if compare:
        show_comparison(session, text, as_json)
        return
    if text is None:
        raise LucidError("cli.missing", command="lucidlm tokenize", name="TEXT")
    if model is not None and kind is not None:
        raise LucidError("cli.model_or_kind")
    name, tokenizer = _tokenizer(model, kind or "bpe")
    from lucidlm.text.explain import explain

    explanation = explain(tokenizer, text)
    if as_json:
        session.answer(explanation_json(name, tokenizer, explanation))
        return
    from lucidlm.terminal.pieces import draw_explanation

    draw_explanation(session.out, session.say, name, tokenizer, explanation)


def analogy(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="cli.argument_words")],
    vectors: Annotated[
        str | None, typer.Option("--vectors", metavar="PATH", help="cli.option_vectors")
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", help="cli.option_neighbours")] = 5,
    as_json: o.Json = False,
) -> None:
    """Add and subtract words, and list the nearest ones."""
    session: Session = ctx.obj
    for word in words:
        if word.startswith("--") and len(word) > 2:
            raise LucidError(
                "cli.no_such_option",
                command="lucidlm analogy",
                option=word,
                nearest="--vectors, --top",
            )
    from lucidlm.classical.vectors import WordVectors

    found = WordVectors.load(_vectors(vectors)).analogy(" ".join(words), top)
    if as_json:
        terms = [{"sign": term.sign, "word": term.word} for term in found.terms]
        nearest = [asdict(neighbour) for neighbour in found.nearest]
        others = [asdict(neighbour) for neighbour in found.nearest_others]
        session.answer({"terms": terms, "nearest": nearest, "nearest_without_inputs": others})
        return
    from lucidlm.terminal.lists import draw_analogy

    draw_analogy(session.out, session.say, found)


def show_comparison(session: Session, text: str | None, as_json: bool) -> None:
    """What the built-in vocabularies and the installed models need for a word and for a Chinese
    character.
    """
    from lucidlm.text.compare import compare

    tokenizers = _all_tokenizers()
    rows = compare(tokenizers)
    counts = (
        {}
        if text is None
        else {n: len(t.encode(text, special=False)) for n, t in tokenizers.items()}
    )
    if as_json:
        listed = [
            asdict(row)
            | {
                "tokens_per_english_word": row.per_word,
                "tokens_per_chinese_character": row.per_character,
            }
            | ({} if text is None else {"tokens": counts[row.name]})
            for row in rows
        ]
        session.answer({"text": text, "tokenizers": listed})
        return
    from lucidlm.terminal.lists import draw_comparison

    draw_comparison(session.out, session.say, rows, counts)


def explanation_json(
    name: str, tokenizer: Tokenizer, explanation: TextExplanation
) -> dict[str, Any]:
    """Every stage of the way as plain values."""
    return {
        "tokenizer": name,
        "kind": tokenizer.kind,
        "text": explanation.text,
        "normalized": explanation.normalized,
        "pretokens": [
            {
                "text": p.text,
                "spelled": p.spelled,
                "span": [p.start, p.end],
                "special": p.special,
                "steps": asdict(p.steps),
            }
            for p in explanation.pretokens
        ],
        "merges": [[asdict(merge) for merge in merges] for merges in explanation.merges],
        "pieces": [
            {
                "id": piece.id,
                "piece": piece.text,
                "label": piece.label,
                "bytes": list(piece.bytes),
                "span": [piece.start, piece.end],
            }
            for piece in explanation.pieces
        ],
        "ids": list(explanation.ids),
    }


def _tokenizer(model: str | None, kind: str) -> tuple[str, Tokenizer]:
    if model is not None:
        from lucidlm.api import open_tokenizer

        return model, open_tokenizer(model)
    from lucidlm.text.builtin import builtin

    return kind, builtin(kind)


def _all_tokenizers() -> dict[str, Tokenizer]:
    """By name: the package's own vocabularies, then those of the models that are here."""
    from lucidlm.api import open_tokenizer
    from lucidlm.checkpoint.catalogue import installed
    from lucidlm.text.builtin import KINDS, builtin

    found = {kind: builtin(kind) for kind in KINDS}
    return found | {
        row.name: open_tokenizer(row.name) for row in installed() if row.name != VECTORS
    }


def _vectors(path: str | None) -> Path:
    """The word vectors to use: `path`, or the pulled ones."""
    if path is not None:
        return Path(path).expanduser()
    from lucidlm.checkpoint.catalogue import find, is_pulled
    from lucidlm.errors import CheckpointError

    row = find(VECTORS)
    if not is_pulled(row):
        raise CheckpointError(
            "load.not_pulled", name=VECTORS, megabytes=row.download_bytes // 1_000_000
        )
    return row.folder
