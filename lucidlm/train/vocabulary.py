"""The tokenizer of a run: loaded, or learnt from the rows, with the control tokens of its
objective.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lucidlm.checkpoint.load import checkpoint_at, resolve
from lucidlm.errors import TrainError
from lucidlm.text.cache import tokenizer_from_gguf
from lucidlm.text.folder import load_tokenizer
from lucidlm.text.gguf import surround
from lucidlm.text.template import load as load_template
from lucidlm.text.tokenizer import Specials, Tokenizer
from lucidlm.text.train import BERT, END, train_tokenizer
from lucidlm.train.recipe import Recipe, TokenizerRecipe

MARIAN = ("<pad>", "</s>")  # what a translation begins with, and what ends either side
MOST_TEXT = 50_000_000  # characters that a vocabulary is learnt from


def loaded(name: str, base: Path) -> Tokenizer:
    """The tokenizer in a folder or file beside the recipe, or of a model by name."""
    there = base / name
    path = resolve(str(there) if there.exists() else name)
    if path.suffix == ".gguf":
        checkpoint = checkpoint_at(path, name)
        assert checkpoint.metadata is not None
        return tokenizer_from_gguf(checkpoint.metadata, checkpoint.fingerprint)
    return load_tokenizer(path if path.is_dir() else path.parent)


def learnt(recipe: Recipe, texts: Iterable[str], base: Path) -> Tokenizer:
    """A vocabulary from `texts`, as the recipe says."""
    told = recipe.tokenizer
    assert told is not None
    special = _special(recipe, told)
    tokenizer = train_tokenizer(
        told.kind, texts, told.vocab_size, special=special, han_alone=told.han_alone
    )
    known: dict[str, int] = {}
    for name in special:
        id = tokenizer.backend.token_to_id(name)
        assert id is not None, name
        known[name] = id
    if recipe.objective == "translate":
        surround(tokenizer.backend, None, known["</s>"])
        specials = Specials(pad=known["<pad>"], eos=(known["</s>"],), unk=tokenizer.specials.unk)
        return replace(tokenizer, specials=specials)
    if recipe.objective == "mask" and told.kind == "char":
        surround(tokenizer.backend, known["[CLS]"], known["[SEP]"])
        pad, cls, sep, mask = (known[f"[{role}]"] for role in ("PAD", "CLS", "SEP", "MASK"))
        unk = tokenizer.specials.unk
        specials = Specials(pad=pad, unk=unk, cls=cls, sep=sep, mask=mask)
        return replace(tokenizer, specials=specials)
    return with_template(tokenizer, told, base)


def with_template(tokenizer: Tokenizer, told: TokenizerRecipe, base: Path) -> Tokenizer:
    """The tokenizer with the recipe's chat template, and with the token that it puts behind an
    answer among those that end one.
    """
    if told.chat_template is None:
        return tokenizer
    path = base / told.chat_template
    try:
        source = path.read_text(encoding="utf-8").strip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainError("dataset.template", path=told.chat_template, reason=str(error)) from None
    framed = replace(tokenizer, chat_template=source)
    asked = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    text = load_template(framed).render(asked, add_generation_prompt=False)
    behind = framed.encode(text.rpartition("!")[2], special=False)
    ends = [id for id in behind[:1] if framed.is_special(id)]
    eos = tuple(dict.fromkeys([*tokenizer.specials.eos, *ends]))
    return replace(framed, specials=replace(tokenizer.specials, eos=eos))


def _special(recipe: Recipe, told: TokenizerRecipe) -> tuple[str, ...]:
    """Control tokens, those of the objective first."""
    if recipe.objective == "translate":
        first: tuple[str, ...] = MARIAN
    elif recipe.objective == "mask":
        first = tuple(name for name in BERT if name != "[UNK]") if told.kind == "char" else ()
    else:
        first = () if END in told.special else (END,)
    return (*first, *(name for name in told.special if name not in first))
