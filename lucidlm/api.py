"""The object that `load` returns: the one place where checkpoint, engine, tokenizer and generation
meet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, overload

from lucidlm.backends import native
from lucidlm.checkpoint.load import Checkpoint, Hints, checkpoint_at, resolve
from lucidlm.classical.ngram import NGram
from lucidlm.classical.words import Words
from lucidlm.config import Config
from lucidlm.count import count
from lucidlm.engine import Engine, Floats, Tracer
from lucidlm.errors import GenerationError, MissingExtra, UnknownName
from lucidlm.generate import (
    Filled,
    GenerationSettings,
    SamplingSettings,
    Score,
    Step,
    Text,
    complete,
    embed,
    fill,
    generate,
    score,
)
from lucidlm.text.cache import tokenizer_from_gguf
from lucidlm.text.chat import encode_chat
from lucidlm.text.folder import load_tokenizer
from lucidlm.text.template import ChatTemplate, Message, PlainFrame
from lucidlm.text.template import load as load_template
from lucidlm.text.tokenizer import Specials, Tokenizer

if TYPE_CHECKING:  # the glass is a third of all modules: who does not look need not wait for it
    from lucidlm.trace.edits import Edit
    from lucidlm.trace.trace import Trace

Dtype = Literal["float32", "bfloat16", "float64"]
EngineName = Literal["torch", "native", "reference"]

# Up to here a model is small: it runs on `reference` where there is neither a native engine nor
# PyTorch (a larger one is so much slower there that the missing part had better be named), and
# natively in float32, whatever its file holds, so that nothing is rounded.
SMALL = 20_000_000  # parameters


@dataclass(frozen=True)
class Blank:
    """One [MASK] and the words that could stand there, likeliest first."""

    position: int
    words: tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that runs. Its methods share nothing but the weights, so threads may use one at
    once.
    """

    name: str
    engine: Engine
    tokenizer: Tokenizer | Words  # an n-gram model brings words of its own
    config: Config | None = None  # None where there is no Transformer (an n-gram model)
    template: ChatTemplate | PlainFrame | None = None
    hints: Hints = field(default_factory=Hints)
    checkpoint: Checkpoint | None = None

    def settings(self, **options: Any) -> GenerationSettings:
        """Settings from keyword options of `GenerationSettings` and `SamplingSettings` alike,
        completed by what the checkpoint says: its end tokens, and for translation its beams.
        """
        sampling_names = {f.name for f in dataclasses.fields(SamplingSettings)}
        sampling = {name: options.pop(name) for name in list(options) if name in sampling_names}
        sampling.setdefault("suppressed", self.hints.suppressed)
        known = {f.name for f in dataclasses.fields(GenerationSettings)} | sampling_names
        if unknown := options.keys() - known:
            raise GenerationError("api.unknown_option", names=", ".join(sorted(unknown)))
        options.setdefault("end", self.end)
        if self.is_translator:
            options.setdefault("forced_bos", self.hints.forced_bos)
            if sampling.get("temperature", 0) == 0 and self.hints.beams > 1:
                options.setdefault("beams", self.hints.beams)
                options.setdefault("length_penalty", self.hints.length_penalty)
                options.setdefault("early_stopping", self.hints.early_stopping)
        return GenerationSettings(sampling=SamplingSettings(**sampling), **options)

    def generate(
        self, prompt: str, *, alternatives: int = 0, tracer: Tracer | None = None, **options: Any
    ) -> Text:
        """Continue `prompt`, or translate it if the model has an encoder. Options as for
        `settings`.
        """
        prompts, sources = self._begin(prompt)
        return complete(
            self.engine,
            prompts,
            self.settings(**options),
            decoder=self.tokenizer,
            sources=sources,
            alternatives=alternatives,
            tracer=tracer,
        )[0]

    def stream(
        self, prompt: str | Sequence[Message], *, tracer: Tracer | None = None, **options: Any
    ) -> Iterator[Step]:
        """The same step by step: each new token as it comes. A list of messages is rendered as a
        chat.
        """
        if isinstance(prompt, str):
            prompts, sources = self._begin(prompt)
        else:
            prompts, sources = [self.chat_ids(prompt)], None
            options.setdefault("stop", self.chat_stop)
        settings = replace(self.settings(**options), beams=1)
        return generate(
            self.engine, prompts, settings, decoder=self.tokenizer, sources=sources, tracer=tracer
        )

    def chat(self, messages: Sequence[Message], *, alternatives: int = 0, **options: Any) -> Text:
        """The assistant's next message."""
        options.setdefault("stop", self.chat_stop)
        return complete(
            self.engine,
            [self.chat_ids(messages)],
            self.settings(**options),
            decoder=self.tokenizer,
            alternatives=alternatives,
        )[0]

    def translate(self, text: str, **options: Any) -> Text:
        """`text` through the encoder, its translation from the decoder; beam search where the
        checkpoint asks for it.
        """
        if not self.is_translator:
            raise GenerationError("api.no_translator", name=self.name)
        return self.generate(text, **options)

    def fill(self, text: str, top: int = 5) -> list[Blank]:
        """The likeliest words for each [MASK] in `text`."""
        mask = self.specials.mask
        if (
            self.kind != "encoder"
            or self.config is None
            or self.config.head is None
            or mask is None
        ):
            raise GenerationError("api.no_fill", name=self.name)
        places: list[Filled] = fill(self.engine, self.tokenizer.encode(text), mask, top)
        return [
            Blank(
                place.position,
                tuple((self.tokenizer.decode([id]).strip(), p) for id, p in place.candidates),
            )
            for place in places
        ]

    def embed(self, text: str | Sequence[str]) -> Floats:
        """A vector of length 1 for each text (rows, dim), or (dim,) for a single one: the mean of
        its tokens' last vectors.
        """
        if self.kind == "decoder":
            raise GenerationError("api.no_encoder", name=self.name)
        texts = [text] if isinstance(text, str) else list(text)
        vectors = embed(self.engine, [self.tokenizer.encode(one) for one in texts])
        return vectors[0] if isinstance(text, str) else vectors

    def score(self, text: str, **options: Any) -> Score:
        """How well the model predicts `text`: perplexity, bits per byte, and every token's own
        surprise.
        """
        if self.kind != "decoder":
            raise GenerationError("api.no_score", name=self.name)
        ids = self.tokenizer.encode(text)
        return score(self.engine, ids, total_bytes=len(text.encode()), **options)

    @overload
    def trace(self, prompt: str | Sequence[Message], **options: Any) -> Trace: ...

    @overload
    def trace(self, prompt: list[str], **options: Any) -> list[Trace]: ...

    def trace(
        self,
        prompt: str | Sequence[Message] | list[str],
        *,
        keep: Sequence[str] = (),
        edits: Sequence[Edit] = (),
        budget: int | str | None = None,
        spill: bool | Path = False,
        **options: Any,
    ) -> Trace | list[Trace]:
        """Run `prompt` and keep what happened, every number of it within reach.

        A text is continued (translated by a model with an encoder and a decoder; read, by an
        encoder alone), a list of messages answered as a chat, a list of texts run as one batch that
        gives a trace each. `keep` are patterns of sites to capture as the model runs, such as
        `*.pattern`; anything else is recomputed when asked for. `budget` ("2GB") bounds the bytes
        kept, `spill` puts them on disk. Other options as for `settings`; by default one token is
        chosen. Raises TraceError before the run where it cannot be.
        """
        from lucidlm.trace.record import Recording, Subject, record
        from lucidlm.trace.tokenized import tokenized

        recording = Recording(keep=keep, edits=edits, budget=budget, spill=spill)
        texts = _texts(prompt)
        if texts is None:
            assert not isinstance(prompt, str)
            messages = cast(Sequence[Message], prompt)
            prompts, sources = [self.chat_ids(messages)], None
            options.setdefault("stop", self.chat_stop)
            assert self.template is not None
            rendered = self.template.render(messages)
            stages = [partial(tokenized, self.tokenizer, rendered, prompts[0], messages)]
        else:
            begun = [self._read(text) for text in texts]
            prompts = [ids for ids, _ in begun]
            sources = [source for _, source in begun if source is not None] or None
            read = sources or prompts
            pairs = zip(texts, read, strict=True)
            stages = [partial(tokenized, self.tokenizer, *pair) for pair in pairs]
        settings = None
        if self.kind == "encoder":
            if options:
                raise GenerationError("api.encoder_options", names=", ".join(sorted(options)))
        else:
            settings = self.settings(**{"max_new_tokens": 1, **options})
        subject = Subject(
            name=self.name,
            engine=self.engine,
            config=self.config,
            decoder=self.tokenizer,
            prompts=prompts,
            sources=sources,
            tokenized=[cache(stage) for stage in stages],
        )
        traces = record(subject, settings, recording)
        return traces if isinstance(prompt, list) and texts is not None else traces[0]

    def open_trace(self, path: str | Path) -> Trace:
        """A saved trace of this model; what was not captured is recomputed by it."""
        from lucidlm.trace.trace import Trace

        return Trace.open(path, self.engine, self.tokenizer)

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """A conversation as the template frames it, up to where the assistant speaks."""
        tokenizer, template = self.tokenizer, self.template
        if self.kind != "decoder" or template is None or not isinstance(tokenizer, Tokenizer):
            raise GenerationError("api.no_chat", name=self.name)
        return encode_chat(tokenizer, template, messages)

    @property
    def chat_stop(self) -> Sequence[str]:
        """Strings that end the assistant's message where no token does."""
        return () if self.template is None else self.template.stop

    @property
    def kind(self) -> str:
        return "decoder" if self.config is None else self.config.kind

    @property
    def is_translator(self) -> bool:
        return self.kind == "encoder-decoder"

    @property
    def end(self) -> frozenset[int]:
        """The ids that end a text, by the checkpoint and by its tokenizer."""
        return self.hints.end | frozenset(self.specials.eos)

    @property
    def specials(self) -> Specials:
        """The tokenizer's control tokens by role."""
        return self.tokenizer.specials if isinstance(self.tokenizer, Tokenizer) else Specials()

    def _begin(self, prompt: str) -> tuple[list[list[int]], list[list[int]] | None]:
        """The decoder's first ids, and the encoder's where there is one."""
        if self.kind == "encoder":
            raise GenerationError("api.encoder_only", name=self.name)
        ids, source = self._read(prompt)
        return [ids], None if source is None else [source]

    def _read(self, text: str) -> tuple[list[int], list[int] | None]:
        """The ids that the model's last stack begins with, and the encoder's before it."""
        if not text.strip():
            raise GenerationError("generate.empty_prompt")
        ids = self.tokenizer.encode(text)
        if not self.is_translator:
            return ids, None
        start = self.hints.decoder_start
        if start is None:
            start = self.hints.pad if self.hints.pad is not None else 0
        return [start], ids


def _texts(prompt: object) -> list[str] | None:
    """The texts of a prompt that is one, or a list of some; None for a chat's messages."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt and all(isinstance(text, str) for text in prompt):
        return prompt
    return None


def load(name: str, *, dtype: Dtype | None = None, engine: EngineName | None = None) -> Model:
    """The model called `name`: a pulled one, a folder, a .gguf or .safetensors file, an .ngram
    file, or a Hugging Face id.

    `engine` None is "native" where it was built: the processor's own instructions on the weights as
    the file has them. With a `dtype`, or where it was not built, it is "torch", the readable model
    (float32 unless said otherwise); without PyTorch, for a small model, "reference" (float64
    NumPy). `dtype` changes neither the first nor the last of them.

    Raises UnknownName, CheckpointError or ConfigError in one sentence when it cannot be had.
    """
    path = resolve(name)
    if path.suffix == ".ngram":
        ngram = NGram.load(path)
        end = frozenset() if ngram.words.end is None else frozenset({ngram.words.end})
        return Model(name=name, engine=ngram, tokenizer=ngram.words, hints=Hints(end=end))
    checkpoint = checkpoint_at(path, name)
    tokenizer = open_tokenizer(checkpoint)
    tokenizer.check(checkpoint.config.vocab_size)
    return Model(
        name=name,
        engine=build_engine(checkpoint, dtype, engine),
        tokenizer=tokenizer,
        config=checkpoint.config,
        template=load_template(tokenizer),
        hints=checkpoint.hints,
        checkpoint=checkpoint,
    )


def build_engine(
    checkpoint: Checkpoint, dtype: Dtype | None = None, engine: EngineName | None = None
) -> Engine:
    """The engine called `engine` for `checkpoint`, or with None the one that runs it here."""
    import numpy as np

    is_small = count(checkpoint.config).parameters <= SMALL
    if engine is None and dtype is None and not native.missing():
        engine = "native"
    if engine is None and is_small and find_spec("torch") is None:
        engine = "reference"
    if engine == "native":
        if native.missing():
            raise GenerationError("api.no_native")
        from lucidlm.backends.native.engine import FORMATS, NativeEngine

        formats = ("F32",) if is_small else FORMATS
        return NativeEngine(checkpoint.config, checkpoint.stored(formats))
    weights = checkpoint.weights(np.float64 if dtype == "float64" else np.float32)
    if engine == "reference":
        from lucidlm.reference.engine import Reference

        return Reference(checkpoint.config, weights)
    if engine not in (None, "torch"):
        raise UnknownName("api.unknown_engine", engine, get_args(EngineName))
    try:
        from lucidlm.model.engine import build
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtra("torch", checkpoint.name) from None
    return build(checkpoint.config, weights, dtype or "float32")


def open_tokenizer(name: str | Checkpoint) -> Tokenizer:
    """A checkpoint's tokenizer; its weights are not read."""
    if isinstance(name, str):
        path = resolve(name)
        if path.suffix != ".gguf":
            return _tokenizer_beside(path)
        name = checkpoint_at(path, name)
    if name.metadata is not None:
        return tokenizer_from_gguf(name.metadata, name.fingerprint)
    return _tokenizer_beside(name.path)


def _tokenizer_beside(path: Path) -> Tokenizer:
    """The tokenizer in a model's folder, or in that of its weights' file."""
    return load_tokenizer(path if path.is_dir() else path.parent)
