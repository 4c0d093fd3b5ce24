"""New vocabularies from text: the five ways to learn pieces, each by the `tokenizers` library's
trainer.

    bpe        byte-level BPE: starts from 256 bytes, joins the most frequent neighbours (Sennrich
      et al. 2016; GPT-2)
    bpe-char   the same from characters; a character not seen in training is <unk>
    wordpiece  BERT's: joins the pair that gains most likelihood; words are cut longest piece first
    unigram    SentencePiece's: starts from many pieces, drops those that the text misses least
      (Kudo 2018)
    char       one token a character

The library counts words in tables of random order, and lets ties (WordPiece) and sums of logarithms
(Unigram) depend on it. Here both are put in an order of their own, so that the same texts give the
same files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from lucidlm.errors import TokenizerError, UnknownName
from lucidlm.text.backend import guarded, state
from lucidlm.text.gguf import surround, wordpiece
from lucidlm.text.tokenizer import Specials, Tokenizer

if TYPE_CHECKING:
    import tokenizers

BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
END = "<|endoftext|>"
MAX_VOCAB = 1_000_000
ALONE = r"\p{Han}|\p{N}"  # what `han_alone` keeps by itself


def train_tokenizer(
    kind: str,
    texts: Iterable[str],
    vocab_size: int,
    *,
    special: Sequence[str] = (),
    normalize: bool = True,
    han_alone: bool = False,
) -> Tokenizer:
    """Learn a vocabulary of at most `vocab_size` entries, `special` tokens included, from `texts`.

    `normalize` lets "wordpiece" fold case and accents and "unigram" apply NFKC. With `han_alone`
    "bpe" joins no Chinese character and no digit with anything beside it. The same texts give the
    same tokenizer.
    """
    if kind not in KINDS:
        raise UnknownName("text.unknown_kind", kind, KINDS)
    if not isinstance(vocab_size, int) or not 0 < vocab_size <= MAX_VOCAB:
        raise TokenizerError("text.vocab_size", size=vocab_size, limit=MAX_VOCAB)
    if han_alone and kind != "bpe":
        raise TokenizerError("text.han_alone", kind=kind)
    with guarded("text.cannot_train"):
        if han_alone:
            return _bpe(_Text(texts), vocab_size, tuple(special), normalize, alone=ALONE)
        return KINDS[kind](_Text(texts), vocab_size, tuple(special), normalize)


class _Text:
    """Texts as the library's trainer takes them, counted: nothing to learn from is an error."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = [texts] if isinstance(texts, str) else list(texts)
        if not any(text.strip() for text in self.texts):
            raise TokenizerError("text.no_training_text")


def _learn(
    backend: tokenizers.Tokenizer, text: _Text, trainer: tokenizers.trainers.Trainer
) -> None:
    backend.train_from_iterator(text.texts, trainer)


def _bpe(
    text: _Text, size: int, special: tuple[str, ...], normalize: bool, alone: str | None = None
) -> Tokenizer:
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Backend

    special = special or (END,)
    if size < (least := 256 + len(special)):
        raise TokenizerError("text.vocab_below", size=size, least=least)
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if alone is not None:
        split = pre_tokenizers.Split(Regex(alone), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, backend.pre_tokenizer])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=alphabet,
        min_frequency=2,
        show_progress=False,
    )
    _learn(backend, text, trainer)
    return Tokenizer(backend, Specials(eos=(0,)))


def _bpe_char(text: _Text, size: int, special: tuple[str, ...], normalize: bool) -> Tokenizer:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    names = ["<unk>", *(special or (END,))]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=names, min_frequency=2, show_progress=False
    )
    _learn(backend, text, trainer)
    return Tokenizer(backend, Specials(unk=0, eos=(1,)))


def _wordpiece(text: _Text, size: int, special: tuple[str, ...], normalize: bool) -> Tokenizer:
    from tokenizers import trainers

    names = [*BERT, *special]
    backend = wordpiece(names, names, lowercase=normalize)
    letters = _letters(
        backend, text
    )  # first, in order: their ids decide between pairs that are equally frequent
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*names, *letters], min_frequency=2, show_progress=False
    )
    _learn(backend, text, trainer)
    vocab = backend.get_vocab()
    backend = wordpiece(sorted(vocab, key=vocab.__getitem__), names, lowercase=normalize)
    surround(backend, 2, 3)
    return Tokenizer(backend, Specials(pad=0, unk=1, cls=2, sep=3, mask=4))


def _letters(backend: tokenizers.Tokenizer, text: _Text) -> list[str]:
    """Every character as it occurs in words: at the beginning plain, further on with ##."""
    found: set[str] = set()
    for line in text.texts:
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(
            backend.normalizer.normalize_str(line)
        ):
            found.update(word[:1], (f"##{character}" for character in word[1:]))
    return sorted(found)


def _unigram(text: _Text, size: int, special: tuple[str, ...], normalize: bool) -> Tokenizer:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    backend = Backend(models.Unigram())
    if normalize:
        backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    names = ["<unk>", *(special or ("</s>",))]
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=names, unk_token="<unk>", show_progress=False
    )
    _learn(backend, text, trainer)
    vocab = [(piece, score) for piece, score in state(backend.model)["vocab"] if piece not in names]
    backend.model = models.Unigram([(name, 0.0) for name in names] + _ordered(vocab), 0)
    return Tokenizer(backend, Specials(unk=0, eos=(1,)))


def _ordered(vocab: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Pieces by score, without what chance put in: the last digits, and the steps of 0.0001 by
    which the trainer tells apart the characters that it keeps only so that every text can be
    spelled."""
    floor = min(score for _, score in vocab)
    spread = floor + 1e-4 * len(vocab)
    even = ((p, floor if len(p) == 1 and score < spread else score) for p, score in vocab)
    return sorted(
        ((piece, round(score, 6)) for piece, score in even), key=lambda entry: (-entry[1], entry[0])
    )


def _char(text: _Text, size: int, special: tuple[str, ...], normalize: bool) -> Tokenizer:
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Backend

    backend = Backend(models.WordLevel(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    names = ["<unk>", *(special or (END,))]
    _learn(
        backend,
        text,
        trainers.WordLevelTrainer(vocab_size=size, special_tokens=names, show_progress=False),
    )
    return Tokenizer(backend, Specials(unk=0, eos=(1,)))


Trainer = Callable[[_Text, int, tuple[str, ...], bool], Tokenizer]
KINDS: dict[str, Trainer] = {
    "bpe": _bpe,
    "bpe-char": _bpe_char,
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "char": _char,
}
