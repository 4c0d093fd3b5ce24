"""The tokenizer in a GGUF file's metadata (`tokenizer.ggml.*`), as the `tokenizers` library runs
it.

`tokenizer.ggml.model` names the kind: "gpt2" (byte-level BPE, split by the rule named in
`tokenizer.ggml.pre`), "llama" (SentencePiece BPE), "t5" (SentencePiece Unigram), "bert" (WordPiece,
where ▁ marks a word's beginning in place of ## elsewhere).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lucidlm.errors import TokenizerError, UnknownName
from lucidlm.text import sentencepiece
from lucidlm.text.backend import MAX_IDS, guarded
from lucidlm.text.spelling import MARK

if TYPE_CHECKING:
    import tokenizers

Metadata = Mapping[str, object]

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _TAIL
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _TAIL
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TAIL_SLASH = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    + _TAIL_SLASH
)
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}" + _TAIL_SLASH
)


@dataclass(frozen=True)
class Rule:
    """How text is split before byte-level BPE: by a pattern, or by GPT-2's own (None), digits one
    by one where asked."""

    names: tuple[str, ...]
    pattern: str | None = None
    single_digits: bool = False
    whole_words: bool = False  # an entry that is a whole pre-token is taken without merging
    compose: bool = False  # NFC first
    adds_bos: bool = False  # where the file does not say


RULES = (
    Rule(("default", "gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "jina-v1-en", "roberta-bpe")),
    Rule(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"), single_digits=True),
    Rule(
        ("llama3", "llama-bpe", "llama-v3", "falcon3", "dbrx", "smaug-bpe", "pixtral"),
        _LLAMA3,
        whole_words=True,
        adds_bos=True,
    ),
    Rule(("chatglm-bpe", "glm4", "minicpm5"), _LLAMA3),
    Rule(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"), _QWEN2, compose=True),
    Rule(("tekken",), _TEKKEN, whole_words=True),
    Rule(("gpt-4o", "llama4"), _GPT4O),
)

KINDS = ("gpt2", "llama", "t5", "bert")


def build(metadata: Metadata) -> tokenizers.Tokenizer:
    """The tokenizer, with what it puts before and after a text as post-processor."""
    kind = str(metadata.get("tokenizer.ggml.model"))
    if kind not in KINDS:
        raise UnknownName("text.gguf_kind", kind, KINDS)
    tokens = _strings(metadata, "tokens")
    types = _ints(metadata, "token_type", len(tokens))
    if kind == "gpt2":
        backend = _byte_level(metadata, tokens, types)
    elif kind == "bert":
        backend = _wordpiece(metadata, tokens, types)
    else:
        backend = sentencepiece.build(_sentencepiece(metadata, kind, tokens, types))
    if backend.get_vocab_size() != len(tokens):
        raise TokenizerError("text.duplicate_pieces", path="GGUF")
    surround(backend, *_ends(metadata, kind))
    return backend


def surround(backend: tokenizers.Tokenizer, before: int | None, after: int | None) -> None:
    """Let the tokenizer put these tokens around every text that it is to prepare for the model."""
    from tokenizers import processors

    if before is None and after is None:
        return
    names = {id: backend.id_to_token(id) for id in (before, after) if id is not None}
    first = [] if before is None else [names[before]]
    last = [] if after is None else [names[after]]
    with guarded("text.damaged", path="vocabulary"):
        single = [*first, "$A", *last]
        backend.post_processor = processors.TemplateProcessing(
            single=single,
            pair=[*single, "$B:1", *(f"{name}:1" for name in last)],
            special_tokens=[(name, id) for id, name in names.items()],
        )


def id_at(metadata: Metadata, name: str, size: int | None = None) -> int | None:
    """A token id out of the metadata, if there is one inside the vocabulary."""
    value = metadata.get(f"tokenizer.ggml.{name}")
    if value is None or isinstance(value, (str, bytes, bool)):
        return None
    id = int(value)  # type: ignore[call-overload]
    return id if 0 <= id and (size is None or id < size) else None


def _ends(metadata: Metadata, kind: str) -> tuple[int | None, int | None]:
    """Ids that go before and after a text."""
    adds_bos = kind == "llama" or (kind == "gpt2" and rule(_pre(metadata)).adds_bos)
    before = _flag(metadata, "add_bos_token", adds_bos) or kind == "bert"
    after = _flag(metadata, "add_eos_token", kind == "t5") or kind == "bert"
    first, last = (
        ("cls_token_id", "seperator_token_id")
        if kind == "bert"
        else ("bos_token_id", "eos_token_id")
    )
    bos = id_at(metadata, first)
    bos = id_at(metadata, "bos_token_id") if bos is None else bos
    eos = id_at(metadata, last)
    eos = id_at(metadata, "eos_token_id") if eos is None else eos
    return (bos if before else None), (eos if after else None)


def rule(name: str) -> Rule:
    """The way to split that goes by this name."""
    for candidate in RULES:
        if name in candidate.names:
            return candidate
    raise UnknownName("text.gguf_pre", name, [known for each in RULES for known in each.names])


def _pre(metadata: Metadata) -> str:
    return str(metadata.get("tokenizer.ggml.pre", "default"))


def _byte_level(metadata: Metadata, tokens: list[str], types: list[int]) -> tokenizers.Tokenizer:
    from tokenizers import AddedToken

    pairs = [pair(merge) for merge in _strings(metadata, "merges")]
    backend = byte_level(
        {token: id for id, token in enumerate(tokens)}, pairs, rule(_pre(metadata))
    )
    with guarded("text.damaged", path="GGUF"):
        for wanted, special in ((sentencepiece.CONTROL, True), (sentencepiece.USER_DEFINED, False)):
            texts = [
                token for token, kind in zip(tokens, types, strict=True) if kind == wanted and token
            ]
            added = [AddedToken(text, normalized=False, special=special) for text in texts]
            backend.add_special_tokens(added) if special else backend.add_tokens(added)
    return backend


def pair(merge: str) -> tuple[str, str]:
    """The two sides of a merge as files write it: `left right`."""
    left, _, right = merge.partition(" ")
    return left, right


def byte_level(
    vocab: dict[str, int], merges: list[tuple[str, str]], rule: Rule
) -> tokenizers.Tokenizer:
    """Byte-level BPE (Radford et al. 2019) over this vocabulary, the text split by `rule`."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    with guarded("text.damaged", path="vocabulary"):
        backend = Tokenizer(models.BPE(vocab, merges, ignore_merges=rule.whole_words))
        if rule.compose:
            backend.normalizer = normalizers.NFC()
        own = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=rule.pattern is None)
        digits = [pre_tokenizers.Digits(individual_digits=True)] if rule.single_digits else []
        split = [pre_tokenizers.Split(Regex(rule.pattern), "isolated")] if rule.pattern else []
        backend.pre_tokenizer = pre_tokenizers.Sequence([*digits, *split, own])
        backend.decoder = decoders.ByteLevel()
    return backend


def _wordpiece(metadata: Metadata, tokens: list[str], types: list[int]) -> tokenizers.Tokenizer:
    """WordPiece; the file does not say whether it is cased, so an entry with a capital letter
    decides."""
    normal = [kind == sentencepiece.NORMAL for kind in types]
    pieces = [
        token if not plain else token[1:] if token.startswith(MARK) else f"##{token}"
        for token, plain in zip(tokens, normal, strict=True)
    ]
    cased = any(
        plain and token != token.lower() for token, plain in zip(tokens, normal, strict=True)
    )
    special = [token for token, plain in zip(pieces, normal, strict=True) if not plain]
    unk = id_at(metadata, "unknown_token_id", len(pieces))
    return wordpiece(
        pieces, special, lowercase=not cased, unk="[UNK]" if unk is None else pieces[unk]
    )


def wordpiece(
    pieces: list[str],
    special: Iterable[str],
    *,
    lowercase: bool,
    unk: str = "[UNK]",
    chinese: bool = True,
) -> tokenizers.Tokenizer:
    """BERT's tokenizer over a vocabulary in BERT's own spelling."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    with guarded("text.damaged", path="vocabulary"):
        vocab = {piece: id for id, piece in enumerate(pieces)}
        backend = Tokenizer(models.WordPiece(vocab, unk_token=unk, max_input_chars_per_word=100))
        backend.normalizer = normalizers.BertNormalizer(
            lowercase=lowercase, handle_chinese_chars=chinese
        )
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        backend.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    return backend


def _sentencepiece(
    metadata: Metadata, kind: str, tokens: list[str], types: list[int]
) -> sentencepiece.SentencePiece:
    size = len(tokens)
    scores = _floats(metadata, "scores", size)
    charsmap = metadata.get("tokenizer.ggml.precompiled_charsmap")
    return sentencepiece.SentencePiece(
        kind="bpe" if kind == "llama" else "unigram",
        pieces=tokens,
        scores=scores,
        types=types,
        charsmap=bytes(value & 0xFF for value in _numbers(charsmap))
        if charsmap is not None
        else b"",
        add_dummy_prefix=_flag(metadata, "add_space_prefix", True),
        remove_extra_whitespaces=_flag(metadata, "remove_extra_whitespaces", kind == "t5"),
        byte_fallback=sentencepiece.BYTE in types,
        unk=id_at(metadata, "unknown_token_id", size),
    )


def _flag(metadata: Metadata, name: str, default: bool) -> bool:
    return bool(metadata.get(f"tokenizer.ggml.{name}", default))


def _array(metadata: Metadata, name: str) -> Any:
    value = metadata.get(f"tokenizer.ggml.{name}")
    if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        raise TokenizerError("text.gguf_missing", name=f"tokenizer.ggml.{name}")
    if len(value) > MAX_IDS:
        raise TokenizerError("text.gguf_missing", name=f"tokenizer.ggml.{name}")
    return value.tolist() if hasattr(value, "tolist") else value


def _strings(metadata: Metadata, name: str) -> list[str]:
    values = list(_array(metadata, name))
    if not values or not all(isinstance(value, str) for value in values):
        raise TokenizerError("text.gguf_missing", name=f"tokenizer.ggml.{name}")
    return values


def _numbers(value: Any) -> list[int]:
    with guarded("text.gguf_missing", name="tokenizer.ggml"):
        return [int(number) for number in value]


def _ints(metadata: Metadata, name: str, size: int) -> list[int]:
    """One small number a token; all NORMAL where the file has none."""
    if f"tokenizer.ggml.{name}" not in metadata:
        return [sentencepiece.NORMAL] * size
    return [int(value) for value in _floats(metadata, name, size)]


def _floats(metadata: Metadata, name: str, size: int) -> list[float]:
    values = list(_array(metadata, name))
    with guarded("text.gguf_missing", name=f"tokenizer.ggml.{name}"):
        numbers = [float(value) for value in values]
    if len(numbers) != size or not all(map(math.isfinite, numbers)):
        raise TokenizerError("text.gguf_missing", name=f"tokenizer.ggml.{name}")
    return numbers
