"""What a training run is told, as frozen dataclasses, and the TOML file that says it.

Every key has a name and a type; a misspelt one is refused with the nearest that exists. Paths in a
recipe are relative to the file that names them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lucidlm.errors import TrainError
from lucidlm.plain import from_plain

Objective = Literal["next", "translate", "mask"]


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """What is trained: a family's config.json without the sizes that the tokenizer decides
    (`vocab_size`, special ids), or an existing checkpoint to `start` from, as it is.
    """

    family: str = "llama"  # a model_type: "llama", "gpt2", "bert", "marian", "lucidlm", ...
    config: Mapping[str, object] = field(default_factory=dict)
    start: str | None = None


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe:
    """A vocabulary to learn from the training rows (`kind`, `vocab_size`), or one to `load`.

    `han_alone` never joins Chinese characters with each other. With `start` in the model's recipe
    the checkpoint's own tokenizer is used and neither may be said.
    """

    load: str | None = None
    kind: Literal["bpe", "wordpiece", "unigram", "char"] = "bpe"
    vocab_size: int = 4096
    special: tuple[str, ...] = ()
    han_alone: bool = False
    chat_template: str | None = None  # a file of jinja2


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file or folder of rows: .txt, .jsonl, .parquet, .tsv (also .gz of each).

    A row is a text, a pair (`source`, `target`) or a chat (`messages`). `repeat` is how often an
    epoch sees each row: 4 is four times, 0.1 a tenth of the rows, another one each epoch.
    """

    path: str
    repeat: float = 1.0
    text: str = "text"  # the key or column of a text
    lines: bool = False  # .txt: a row each line, not each file


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """What is learnt from. Without `held_out` files a share of the rows, chosen by content, is set
    aside.
    """

    train: tuple[Source, ...]
    held_out: tuple[Source, ...] = ()
    held_out_share: float = 0.01
    forbid: tuple[str, ...] = ()  # a training row that contains one of these is an error
    pack: bool = True  # several rows beside each other, none seeing another; else one a line
    pair: str = "翻译:{source}\n{target}"  # how a decoder alone reads a pair
    loss_on: Literal["all", "answers"] = "all"  # of a pair or chat: everything, or what is answered


@dataclass(frozen=True, kw_only=True)
class OptimiserRecipe:
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan 2024) for the matrices inside layers with
    AdamW for the rest.
    """

    name: Literal["adamw", "muon"] = "muon"
    rate: float = 3e-3  # AdamW's peak learning rate, as it is good for what is left beside Muon
    muon_rate: float = 0.02
    betas: tuple[float, ...] = (0.9, 0.95)
    weight_decay: float = 0.1  # of matrices; norms, biases and embeddings have none
    clip: float = 1.0  # of the gradient's norm; 0 is none
    momentum: float = 0.95  # Muon's


@dataclass(frozen=True, kw_only=True)
class ScheduleRecipe:
    """Learning rate over the run: up in `warmup` steps, then down to `floor` times the peak."""

    warmup: int = 100
    decay: Literal["cosine", "linear", "none"] = "cosine"
    floor: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LoraRecipe:
    """Low-rank updates (Hu et al. 2022) of the named projections: `alpha / rank` times B A."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("query", "key", "value", "output", "gate", "up", "down")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run. `steps` are updates of the weights; each reads `batch` rows of `context` tokens
    `accumulate` times on every process.
    """

    data: DataRecipe
    name: str = "model"
    objective: Objective = "next"
    model: ModelRecipe = ModelRecipe()
    tokenizer: TokenizerRecipe | None = None
    optimiser: OptimiserRecipe = OptimiserRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    lora: LoraRecipe | None = None
    seed: int = 1
    steps: int = 1000
    batch: int = 16
    context: int = 256
    accumulate: int = 1
    dropout: float = 0.0
    label_smoothing: float = 0.0
    mask_share: float = 0.15  # objective "mask": of tokens to be guessed (Devlin et al. 2019)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Literal["auto", "explicit", "sdpa"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    checkpointing: bool = False  # recompute activations in the backward pass
    save_every: int = 500
    keep: int = 2  # checkpoints kept besides the last good one
    evaluate_every: int = 250
    evaluate_rows: int = 200
    sample_every: int = 500
    samples: tuple[str, ...] = ()  # prompts


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with `changes` like `optimiser.rate=3e-4` made to it.

    Raises TrainError for a file that is not there or is no TOML, and for values that cannot be;
    ConfigError names an unknown key and the nearest ones that exist.
    """
    return build_recipe(_read(path), path, changes)


def build_recipe(told: Mapping[str, Any], path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe that `told` spells out; `path` is the file it stands for, from which its paths
    count.
    """
    told = {**told}
    for change in changes:
        _change(told, change)
    recipe = from_plain(Recipe, told, path.name)
    _check(recipe)
    return recipe


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainError("train.no_recipe", path=str(path)) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainError("train.bad_toml", path=str(path), reason=str(error)) from None


def _change(told: dict[str, Any], change: str) -> None:
    """Make one `key.inner=value` in `told`; a value is TOML, or else a plain string."""
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise TrainError("train.bad_set", change=change)
    *outer, last = key.strip().split(".")
    inner = told
    for name in outer:
        found = inner.get(name, {})
        if not isinstance(found, Mapping):
            raise TrainError("train.bad_set", change=change)
        inner[name] = inner = {**found}
    try:
        inner[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        inner[last] = value.strip()


def _check(recipe: Recipe) -> None:
    """Refuse values that no run can have."""
    for name in ("steps", "batch", "context", "accumulate", "save_every", "evaluate_every"):
        if getattr(recipe, name) < 1:
            raise TrainError("train.at_least_one", key=name, value=getattr(recipe, name))
    for name in ("dropout", "label_smoothing", "mask_share"):
        if not 0 <= getattr(recipe, name) < 1:
            raise TrainError("train.share", key=name, value=getattr(recipe, name))
    if not 0 <= recipe.data.held_out_share < 1:
        raise TrainError("train.share", key="held_out_share", value=recipe.data.held_out_share)
    if len(recipe.optimiser.betas) != 2:
        raise TrainError("train.betas", count=len(recipe.optimiser.betas))
    if not recipe.data.train:
        raise TrainError("train.no_data")
    if recipe.model.start is not None and (recipe.tokenizer or recipe.model.config):
        raise TrainError("train.start_and_more", start=recipe.model.start)
    if recipe.model.start is None and recipe.tokenizer is None:
        raise TrainError("train.no_tokenizer")
    if recipe.lora is not None and recipe.model.start is None:
        raise TrainError("train.lora_needs_start")
