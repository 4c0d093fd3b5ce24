"""Every error a user can meet, in one small tree.

    LucidError             the caller can do something about it: exit code 2
    ├── UnknownName        a name that does not exist; carries the nearest ones
    ├── ConfigError        an architecture that cannot be built, or a config not understood
    ├── CheckpointError    a weights file that is damaged, hostile, or does not fit its config
    ├── TokenizerError     a tokenizer that cannot be read, or does not fit the model
    ├── TemplateError      a chat template that fails, loops, or prints without end
    ├── GenerationError    an empty or overlong prompt, or impossible sampling values
    ├── TraceError         an address, edit or trace file that cannot be, or a budget exceeded
    ├── TrainError         a recipe, data or run that cannot be trained
    ├── PullError          a download that failed, or is not the file it should be
    └── MissingExtra       an optional dependency that is not installed

An error names its message by a key of `lucidlm.locale`, so that the same error speaks Chinese and
English. Invariants of our own are `assert`ed: whoever meets one has found a bug.
"""

from __future__ import annotations

from collections.abc import Iterable

from lucidlm.locale import text


class LucidError(Exception):
    """What was wrong and what to do about it: `key` and `values` select and fill a message in any
    language.
    """

    def __init__(self, key: str, /, **values: object) -> None:
        self.key = key
        self.values = values
        super().__init__(key)

    def __str__(self) -> str:
        return self.message("en")

    def message(self, lang: str) -> str:
        """The sentence in `lang` ("en" or "zh")."""
        return text(self.key, lang, **self.values)


class UnknownName(LucidError):
    """A name that does not exist; the message lists the nearest ones that do."""

    def __init__(self, key: str, name: str, known: Iterable[str], /, **values: object) -> None:
        self.nearest = nearest(name, known)
        super().__init__(key, name=name, nearest=", ".join(self.nearest) or "-", **values)


class ConfigError(LucidError):
    """An architecture that cannot be built, or a config file that is not understood."""


class CheckpointError(LucidError):
    """A weights file that is damaged, hostile, or does not fit its config."""


class TokenizerError(LucidError):
    """A tokenizer that cannot be read, or does not fit the model."""


class TemplateError(LucidError):
    """A chat template that fails, loops, or prints without end."""


class GenerationError(LucidError):
    """An empty prompt, a prompt beyond the context, or impossible sampling values."""


class TraceError(LucidError):
    """An address that does not exist, an edit that does not fit, a trace that is too large or
    damaged.
    """


class TrainError(LucidError):
    """A recipe that cannot be, data that cannot be learnt from, or a run that cannot go on."""


class PullError(LucidError):
    """A download that failed, was cut short, or is not the file it should be."""


class MissingExtra(LucidError):
    """An optional dependency is not installed; the message names the extra."""

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__("errors.missing_extra", extra=extra, purpose=purpose)


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The `count` known names most like `name`, best first; everything when there are few."""
    import difflib

    names = sorted(set(known))
    return difflib.get_close_matches(name, names, n=count, cutoff=0.4) or names[:count]
