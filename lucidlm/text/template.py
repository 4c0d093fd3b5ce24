"""Chat templates: a list of messages as the one text that the model was trained to continue.

A checkpoint brings its template as jinja2 source; it runs in `lucidlm.text.sandbox`. A base model
has none: `PlainFrame` asks it by way of a plain question and answer, and `is_plain` lets the
program say so.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lucidlm.errors import LucidError, TemplateError, UnknownName
from lucidlm.text.backend import read_bytes, read_json

if TYPE_CHECKING:
    import jinja2

    from lucidlm.text.sandbox import Sandbox
    from lucidlm.text.tokenizer import Tokenizer

Message = Mapping[str, object]
MAX_SOURCE = 200_000  # characters; published templates have at most 30,000
MAX_OUTPUT = 1_000_000  # characters


@dataclass(frozen=True, eq=False)
class ChatTemplate:
    """A checkpoint's own template. `tokens` are its special tokens' texts by role (`bos`, `eos`,
    ...)."""

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    is_plain: ClassVar[bool] = False
    stop: ClassVar[tuple[str, ...]] = ()  # the model ends its turn with an end token
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The text for `messages`, each with `role` and `content`; by default up to where the
        answer begins.

        Raises TemplateError when the template is not valid, refuses the messages, takes more than
        two seconds, or makes more than a million characters.
        """
        plain = checked(messages)
        with self._lock, _told():
            sandbox, template = self._compiled
            sandbox.budget = type(sandbox.budget)()
            parts, size = [], 0
            variables = {f"{role}_token": text for role, text in self.tokens.items()}
            for part in template.generate(
                messages=plain,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **variables,
            ):
                parts.append(part)
                size += len(part)
                if size > MAX_OUTPUT:
                    raise TemplateError("text.template_large", limit=MAX_OUTPUT)
            return "".join(parts)

    @cached_property
    def _compiled(self) -> tuple[Sandbox, jinja2.Template]:
        from lucidlm.text.sandbox import Sandbox

        if len(self.source) > MAX_SOURCE:
            raise TemplateError("text.template_source", size=len(self.source), limit=MAX_SOURCE)
        sandbox = Sandbox()
        return sandbox, sandbox.template(self.source)


@dataclass(frozen=True)
class PlainFrame:
    """Question and answer in plain words, Chinese or English by the last question; `stop` ends the
    answer."""

    is_plain: ClassVar[bool] = True
    stop: ClassVar[tuple[str, ...]] = (
        "\nQuestion:",
        "\nAnswer:",
        "\n问：",
        "\n问:",
        "\n答：",
        "\n答:",
    )

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The same contract as `ChatTemplate.render`; a system message goes first, as it is."""
        plain = checked(messages)
        last = next((m["content"] for m in reversed(plain) if m["role"] == "user"), "")
        chinese = re.search(r"[\u3400-\u9fff]", str(last)) is not None
        question, answer = ("问：", "答：") if chinese else ("Question: ", "Answer: ")
        opening = {"user": question, "assistant": answer}
        parts = []
        for message in plain:
            end = "\n" if message["role"] == "user" else "\n\n"
            parts.append(
                f"{opening.get(str(message['role']), '')}{str(message['content']).strip()}{end}"
            )
        return "".join(parts) + (answer.rstrip() if add_generation_prompt else "")


def load(tokenizer: Tokenizer) -> ChatTemplate | PlainFrame:
    """The template that came with a tokenizer, with its special tokens; a plain frame where there
    is none.
    """
    if not tokenizer.chat_template:
        return PlainFrame()
    specials = tokenizer.specials
    ids = {role: getattr(specials, role) for role in ("bos", "unk", "pad", "mask", "cls", "sep")}
    ids["eos"] = next(iter(specials.eos), None)
    tokens = {role: tokenizer.piece(id) for role, id in ids.items() if id is not None}
    return ChatTemplate(tokenizer.chat_template, tokens)


def find_source(path: Path, name: str = "default") -> str | None:
    """The template in a model's folder, or beside its file: chat_template.jinja, else
    `chat_template` in tokenizer_config.json, where a list holds several by name.
    """
    folder = path if path.is_dir() else path.parent
    if (own := folder / "chat_template.jinja").is_file():
        return read_bytes(own, 4 * MAX_SOURCE).decode(errors="replace")
    if not (config := folder / "tokenizer_config.json").is_file():
        return None
    value = read_json(config).get("chat_template")
    if isinstance(value, list):
        named = {str(e.get("name")): e.get("template") for e in value if isinstance(e, dict)}
        if named and name not in named:
            raise UnknownName("text.template_name", name, named)
        value = named.get(name)
    return value if isinstance(value, str) and value else None


def source_in(metadata: Mapping[str, object]) -> str | None:
    """The template in a GGUF file's metadata."""
    value = metadata.get("tokenizer.chat_template")
    return value if isinstance(value, str) and value else None


def checked(messages: Sequence[Message]) -> list[dict[str, object]]:
    """The messages as plain data, each with its role and content."""
    if not messages:
        raise TemplateError("text.no_messages")
    for number, message in enumerate(messages, 1):
        if (
            not isinstance(message, Mapping)
            or not isinstance(message.get("role"), str)
            or "content" not in message
        ):
            raise TemplateError("text.bad_message", number=number)
    try:
        plain: list[dict[str, object]] = json.loads(
            json.dumps([dict(message) for message in messages])
        )
    except (TypeError, ValueError, RecursionError):
        raise TemplateError("text.bad_message", number=1) from None
    return plain


class _told:
    """Whatever goes wrong in a template, told as a TemplateError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, LucidError) or not isinstance(error, Exception):
            return
        import jinja2

        detail = " ".join(str(error).split())[:300] or type(error).__name__
        key = (
            "text.template_syntax"
            if isinstance(error, jinja2.TemplateSyntaxError)
            else "text.template_failed"
        )
        raise TemplateError(key, detail=detail.rstrip(".")) from None
