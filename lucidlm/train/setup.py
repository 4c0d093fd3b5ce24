"""From a recipe to what a run is made of: data, a model's config and family, its beginning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from lucidlm.checkpoint.load import Checkpoint, Hints, open_checkpoint
from lucidlm.config import Config
from lucidlm.errors import TrainError
from lucidlm.families import by_model_type
from lucidlm.families.family import HF, Family
from lucidlm.model.transformer import Transformer
from lucidlm.text.cache import tokenizer_from_gguf
from lucidlm.text.folder import load_tokenizer
from lucidlm.text.template import load as load_template
from lucidlm.text.tokenizer import Tokenizer
from lucidlm.train.building import fresh, from_checkpoint
from lucidlm.train.corpus import Corpus, open_corpus
from lucidlm.train.lora import adapt
from lucidlm.train.recipe import Recipe

NEEDS = {"next": "decoder", "translate": "encoder-decoder", "mask": "encoder"}  # by objective
ANY_SIZE = 8  # of a vocabulary, to read a config by before there is one


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is trained, and on what. The model itself is built when `model` is called."""

    recipe: Recipe
    family: Family
    config: Config
    hints: Hints
    corpus: Corpus
    checkpoint: Checkpoint | None  # that it starts from

    def model(self) -> Transformer:
        """The model as it is before the first step, on the CPU, in float32."""
        if self.checkpoint is None:
            return fresh(self.config, self.recipe.seed)
        model = from_checkpoint(self.checkpoint)
        if self.recipe.lora is not None:
            adapt(model, self.recipe.lora, self.recipe.seed)
        return model

    @property
    def start(self) -> str | None:
        """Tells the frozen weights that adapters are learnt for from others."""
        frozen = self.checkpoint is not None and self.recipe.lora is not None
        return self.checkpoint.fingerprint if frozen and self.checkpoint is not None else None


def prepare(recipe: Recipe, base: Path, progress: Callable[[str, float], None]) -> Subject:
    """Open the data and settle the model's config; `base` is where the recipe's paths begin.

    Raises TrainError and ConfigError for what cannot be trained.
    """
    if recipe.model.start is None:
        return _from_scratch(recipe, base, progress)
    there = base / recipe.model.start
    checkpoint = open_checkpoint(str(there) if there.exists() else recipe.model.start)
    _check(checkpoint.config, recipe)
    tokenizer = _tokenizer(checkpoint)
    tokenizer.check(checkpoint.config.vocab_size)
    corpus = open_corpus(
        recipe,
        base,
        tokenizer=tokenizer,
        template=load_template(tokenizer),
        max_positions=checkpoint.config.max_positions,
        progress=progress,
    )
    return Subject(
        recipe=recipe,
        family=checkpoint.family,
        config=checkpoint.config,
        hints=checkpoint.hints,
        corpus=corpus,
        checkpoint=checkpoint,
    )


def device() -> torch.device:
    """Where this machine trains."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _from_scratch(recipe: Recipe, base: Path, progress: Callable[[str, float], None]) -> Subject:
    hf: HF = {"model_type": recipe.model.family, **recipe.model.config}
    family = by_model_type(hf)
    said = [key for key in ("vocab_size", "decoder_vocab_size") if key in hf]
    if said:
        raise TrainError("training.vocab_in_config", key=said[0])
    config = family.read(hf | {"vocab_size": ANY_SIZE})  # what is wrong with it shows before work
    _check(config, recipe)
    corpus = open_corpus(recipe, base, max_positions=config.max_positions, progress=progress)
    tokenizer = corpus.tokenizer
    return Subject(
        recipe=recipe,
        family=family,
        config=family.read(hf | {"vocab_size": tokenizer.vocab_size}),
        hints=_hints(tokenizer, recipe),
        corpus=corpus,
        checkpoint=None,
    )


def _check(config: Config, recipe: Recipe) -> None:
    if config.kind != NEEDS[recipe.objective] or config.head is None:
        raise TrainError(
            "training.wrong_kind",
            objective=recipe.objective,
            needed=NEEDS[recipe.objective],
            found=config.kind,
        )
    if recipe.context > config.max_positions:
        raise TrainError("training.context", context=recipe.context, positions=config.max_positions)


def _hints(tokenizer: Tokenizer, recipe: Recipe) -> Hints:
    """How the model is to be asked for text. A text alone begins as GPT-2's, behind an end; a
    translation as Marian's, behind padding.
    """
    specials = tokenizer.specials
    translates = recipe.objective == "translate"
    ends = specials.eos[0] if specials.eos and recipe.objective == "next" else None
    return Hints(
        bos=ends if specials.bos is None else specials.bos,
        end=frozenset(specials.eos),
        pad=specials.pad,
        decoder_start=specials.pad if translates else None,
        suppressed=frozenset({specials.pad} if translates and specials.pad is not None else ()),
    )


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    if checkpoint.metadata is not None:
        return tokenizer_from_gguf(checkpoint.metadata, checkpoint.fingerprint)
    path = checkpoint.path
    return load_tokenizer(path if path.is_dir() else path.parent)
