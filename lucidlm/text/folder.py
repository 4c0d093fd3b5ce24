"""Tokenizers in a model's folder, read and written as Hugging Face lays them out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lucidlm.errors import TokenizerError
from lucidlm.files import write_atomic
from lucidlm.text import gguf, marian, sentencepiece
from lucidlm.text.backend import MAX_IDS, guarded, parse_backend, read_bytes, read_json
from lucidlm.text.template import find_source
from lucidlm.text.tokenizer import Specials, Tokenizer

if TYPE_CHECKING:
    import tokenizers

Config = dict[str, Any]

SENTENCEPIECE = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
CONFIG_LIMIT = 32 * 1024 * 1024  # bytes; configs list added tokens, and those may be many
USUAL = {
    "bos": ("<s>", "<bos>", "<|begin_of_text|>"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]"),
    "pad": ("<pad>", "[PAD]"),
    "mask": ("<mask>", "[MASK]"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
}


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a folder (tokenizer.json, vocab.txt, vocab.json + merges.txt, SentencePiece,
    Marian), or in one such file."""
    path = Path(path)
    if not path.exists():
        raise TokenizerError("text.not_there", path=path)
    folder = path if path.is_dir() else path.parent
    config = tokenizer_config(folder)
    names = [path.name] if path.is_file() else sorted(entry.name for entry in folder.iterdir())
    if set(marian.FILES) <= set(names):
        return marian.load(folder, config, find_source(folder))
    for name, build in _BUILDERS.items():
        if name in names:
            backend = build(folder / name, config)
            _add_tokens(backend, config)
            return Tokenizer(backend, specials_of(backend, config, folder), find_source(folder))
    if path.is_file() and path.suffix == ".json":
        backend = _from_json(path, config)
        return Tokenizer(backend, specials_of(backend, config, folder), find_source(folder))
    raise TokenizerError("text.no_tokenizer", path=path, known=", ".join(_BUILDERS))


def tokenizer_config(folder: Path) -> Config:
    """special_tokens_map.json and tokenizer_config.json together; {} where there is neither."""
    config: Config = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            config |= read_json(folder / name, CONFIG_LIMIT)
    return config


def specials_of(backend: tokenizers.Tokenizer, config: Config, folder: Path) -> Specials:
    """What the configs call bos_token and so on; the usual spellings where no config names any."""
    named = any(f"{role}_token" in config for role in USUAL)

    def id_of(role: str) -> int | None:
        content = _content(config.get(f"{role}_token"))
        spellings = ((content,) if content else ()) if named else USUAL[role]
        found = (backend.token_to_id(spelling) for spelling in spellings)
        return next((id for id in found if id is not None), None)

    eos = [id for id in (id_of("eos"), *_generation_ends(folder)) if id is not None]
    known = [id for id in dict.fromkeys(eos) if backend.id_to_token(id) is not None]
    rest = {role: id_of(role) for role in USUAL if role != "eos"}
    return Specials(eos=tuple(known), **rest)


def _generation_ends(folder: Path) -> list[int]:
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            value = read_json(folder / name, CONFIG_LIMIT).get("eos_token_id")
            ids = value if isinstance(value, list) else [value]
            if found := [id for id in ids if type(id) is int and 0 <= id < 1 << 32]:
                return found
    return []


def _content(value: object) -> str | None:
    """A special token's text, which configs give plain or as an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _add_tokens(backend: tokenizers.Tokenizer, config: Config) -> None:
    """Tokens that only the config knows: `added_tokens_decoder`, then the named special ones."""
    from tokenizers import AddedToken

    listed = config.get("added_tokens_decoder")
    entries = listed if isinstance(listed, dict) else {}
    with guarded("text.damaged", path="tokenizer_config.json"):
        for _, entry in sorted(entries.items(), key=lambda item: int(item[0])):
            options = {
                name: bool(entry.get(name))
                for name in ("single_word", "lstrip", "rstrip", "normalized")
            }
            token = AddedToken(entry["content"], special=bool(entry.get("special")), **options)
            backend.add_special_tokens([token]) if token.special else backend.add_tokens([token])
        texts = [text for role in USUAL if (text := _content(config.get(f"{role}_token")))]
        have = {token.content for token in backend.get_added_tokens_decoder().values()}
        backend.add_special_tokens(
            [
                AddedToken(text, normalized=False)
                for text in dict.fromkeys(texts)
                if text not in have
            ]
        )


def _from_json(path: Path, config: Config) -> tokenizers.Tokenizer:
    return parse_backend(read_bytes(path), path)


def _from_vocab_txt(path: Path, config: Config) -> tokenizers.Tokenizer:
    """BERT's vocab.txt: one entry a line, its number the id."""
    lines = _text(path).split("\n")
    pieces = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    if len(set(pieces)) != len(pieces):
        raise TokenizerError("text.duplicate_pieces", path=path)
    special = [piece for piece in pieces if re.fullmatch(r"\[(PAD|UNK|CLS|SEP|MASK)\]", piece)]
    cased = any(piece != piece.lower() for piece in pieces if piece not in special)
    lowercase = bool(config.get("do_lower_case", not cased))
    chinese = bool(config.get("tokenize_chinese_chars", True))
    backend = gguf.wordpiece(pieces, special, lowercase=lowercase, chinese=chinese)
    gguf.surround(backend, backend.token_to_id("[CLS]"), backend.token_to_id("[SEP]"))
    return backend


def _from_gpt2(path: Path, config: Config) -> tokenizers.Tokenizer:
    """GPT-2's vocab.json and merges.txt; BART and RoBERTa put <s> and </s> around, Qwen splits its
    own way."""
    vocab = read_json(path)
    if not all(type(id) is int and 0 <= id < MAX_IDS for id in vocab.values()):
        raise TokenizerError("text.bad_vocabulary", path=path)
    lines = _text(path.with_name("merges.txt")).splitlines()
    pairs = [gguf.pair(line) for line in lines if line and not line.startswith("#version")]
    if not all(left and right for left, right in pairs):
        raise TokenizerError("text.bad_vocabulary", path=path.with_name("merges.txt"))
    family = str(config.get("tokenizer_class", ""))
    backend = gguf.byte_level(
        vocab, pairs, gguf.rule("qwen2" if family.startswith("Qwen2") else "gpt-2")
    )
    if family.startswith(("Bart", "Roberta")):
        gguf.surround(backend, backend.token_to_id("<s>"), backend.token_to_id("</s>"))
    return backend


def _from_sentencepiece(path: Path, config: Config) -> tokenizers.Tokenizer:
    """A SentencePiece model with what its family adds: Llama and Gemma BOS, T5 EOS and 100 blanks,
    XLM-R a shift of ids."""
    model = sentencepiece.read(read_bytes(path), path)
    family = str(config.get("tokenizer_class", ""))
    if path.name == "sentencepiece.bpe.model":
        model = sentencepiece.shifted(model)
        backend = sentencepiece.build(model)
        gguf.surround(backend, model.bos, model.eos)
        return backend
    if family.startswith(("T5", "MT5")):
        blanks = config.get("extra_ids")
        model = sentencepiece.with_blanks(model, blanks if type(blanks) is int else 100)
    backend = sentencepiece.build(model)
    bos = config.get("add_bos_token", family.startswith(("Llama", "Gemma", "CodeLlama")))
    eos = config.get("add_eos_token", family.startswith(("T5", "MT5")))
    gguf.surround(backend, model.bos if bos else None, model.eos if eos else None)
    return backend


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError:
        raise TokenizerError("text.bad_vocabulary", path=path) from None


_BUILDERS: dict[str, Callable[[Path, Config], tokenizers.Tokenizer]] = {
    "tokenizer.json": _from_json,
    **dict.fromkeys(SENTENCEPIECE, _from_sentencepiece),
    "vocab.txt": _from_vocab_txt,
    "vocab.json": _from_gpt2,
}


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write the files that `load_tokenizer` and `transformers` read, each whole or not at all."""
    folder = Path(folder)
    specials = tokenizer.specials
    roles = {role: getattr(specials, role) for role in USUAL} | {
        "eos": next(iter(specials.eos), None)
    }
    config: Config = {
        f"{role}_token": tokenizer.piece(id) for role, id in roles.items() if id is not None
    }
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if tokenizer.chat_template:
        config["chat_template"] = tokenizer.chat_template
    files = dict(tokenizer.files) or {
        "tokenizer.json": tokenizer.backend.to_str(pretty=False).encode(),
        "tokenizer_config.json": json.dumps(config, ensure_ascii=False, indent=2).encode(),
    }
    if len(specials.eos) > 1 and not (folder / "generation_config.json").exists():
        files["generation_config.json"] = json.dumps({"eos_token_id": list(specials.eos)}).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_atomic(folder / name, data)
    except OSError as error:
        raise TokenizerError(
            "text.cannot_write", path=folder, detail=error.strerror or ""
        ) from None
