"""What a tokenizer does to a text before its model cuts it: special tokens, normalising, splitting.

All of that is the `tokenizers` library's own work, with exact places in the original. To see it,
the model is exchanged for one that knows nothing, and so returns every stretch it is given as it
is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from lucidlm.text.backend import guarded
from lucidlm.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

Span = tuple[int, int]


@dataclass(frozen=True)
class Stretch:
    """What the model is given: `spelled` by normalising and splitting, from characters `span` of
    the original. `added` is the id where this is an added token, which no model cuts."""

    spelled: str
    span: Span
    added: int | None


@dataclass(frozen=True)
class Change:
    """Normalising turned characters `start` to `end` of the text, `before`, into `after`."""

    before: str
    after: str
    start: int
    end: int


def pretokens(tokenizer: Tokenizer, text: str) -> list[Stretch]:
    """The stretches that are cut on their own."""
    return _watched(_watchers(tokenizer).words, _watchers(tokenizer).ids, text)


def spans(tokenizer: Tokenizer, text: str) -> list[Span]:
    """The characters that each token covers, spaces included (a post-processor may trim them)."""
    with guarded("text.cannot_encode"):
        return list(_watchers(tokenizer).bare.encode(text).offsets)


def normalized(tokenizer: Tokenizer, text: str) -> tuple[str, tuple[Change, ...]]:
    """The normalised text, and where it differs from the original."""
    watchers = _watchers(tokenizer)
    groups: list[tuple[int, int, str]] = []  # start, end, what these characters became
    for stretch in _watched(watchers.characters, watchers.ids, text):
        start, end = stretch.span
        after = stretch.spelled if stretch.added is None else text[start:end]
        done = groups[-1][1] if groups else 0
        if groups and start < done:  # one character became several, or several one
            first, _, before = groups.pop()
            groups.append((first, max(done, end), before + after))
            continue
        if start > done:
            groups.append((done, start, ""))
        groups.append((start, end, after))
    done = groups[-1][1] if groups else 0
    groups.append((done, len(text), ""))
    return "".join(after for *_, after in groups), tuple(_changes(text, groups))


def _changes(text: str, groups: list[tuple[int, int, str]]) -> list[Change]:
    """The groups that changed, neighbours together."""
    found: list[Change] = []
    for start, end, after in groups:
        if text[start:end] == after:
            continue
        last = found[-1] if found else None
        if last is not None and last.end == start:
            found[-1] = Change(text[last.start : end], last.after + after, last.start, end)
        else:
            found.append(Change(text[start:end], after, start, end))
    return found


@dataclass(frozen=True)
class _Watchers:
    """Three tokenizers like the one that is watched, and its added tokens' ids by those of the
    first two: `words` and `characters` know nothing, `bare` has the same model but no
    post-processor."""

    words: tokenizers.Tokenizer
    characters: tokenizers.Tokenizer
    bare: tokenizers.Tokenizer
    ids: dict[int, int]


_NEVER = "\ufdd0 never \ufdd1"  # the only entry: noncharacters around spaces


@lru_cache(maxsize=4)  # added tokens may be thousands
def _watchers(tokenizer: Tokenizer) -> _Watchers:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    backend = tokenizer.backend
    with guarded("text.cannot_explain", kind=tokenizer.kind):
        words, characters = (Tokenizer(models.Unigram([(_NEVER, 0.0)], 0)) for _ in range(2))
        bare = Tokenizer(backend.model)
        words.pre_tokenizer = bare.pre_tokenizer = backend.pre_tokenizer
        characters.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        added = backend.get_added_tokens_decoder()
        for like in (words, characters, bare):
            like.normalizer = backend.normalizer
            like.add_special_tokens([token for token in added.values() if token.special])
            like.add_tokens([token for token in added.values() if not token.special])
        by_content = {token.content: id for id, token in added.items()}
        seen = words.get_added_tokens_decoder()
    return _Watchers(
        words, characters, bare, {id: by_content[token.content] for id, token in seen.items()}
    )


def _watched(like: tokenizers.Tokenizer, ids: dict[int, int], text: str) -> list[Stretch]:
    with guarded("text.cannot_encode"):
        encoding = like.encode(text)
    rows = zip(encoding.tokens, encoding.offsets, encoding.ids, strict=True)
    return [Stretch(spelled, span, ids.get(id)) for spelled, span, id in rows]
