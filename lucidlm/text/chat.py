"""A conversation as token ids, in which nobody's words become control tokens.

A template writes control tokens as text (<|im_start|>), and so may a user. In `run` a prompt is
read as Hugging Face reads it, control tokens included: it is the user's own. In a chat a message is
somebody's words: what looks like a control token in it stays plain characters, so that no message
can end its turn and speak as the system.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lucidlm.text.template import ChatTemplate, Message, PlainFrame, checked
from lucidlm.text.tokenizer import Tokenizer


def encode_chat(
    tokenizer: Tokenizer,
    template: ChatTemplate | PlainFrame,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
) -> list[int]:
    """Token ids of the rendered messages. A template writes BOS itself where the model wants it; a
    plain frame gets it here."""
    if template.is_plain:
        text = template.render(messages, add_generation_prompt=add_generation_prompt)
        return tokenizer.encode(text, allow_special=False)
    controls = {
        tokenizer.piece(id): id for id in tokenizer.special_ids if len(tokenizer.piece(id)) > 1
    }
    plain = checked(messages)
    written = "\0".join(_strings(plain))
    named = [name for name in controls if name in written]
    stand_ins = dict(zip(named, _unused(written, len(named)), strict=True))
    text = template.render(
        [_replaced(message, stand_ins) for message in plain],
        add_generation_prompt=add_generation_prompt,
    )
    if not named:
        return tokenizer.encode(text, special=False)
    names = "|".join(re.escape(name) for name in sorted(controls, key=len, reverse=True))
    ids: list[int] = []
    for part in re.split(f"({names})", text):
        if part in controls:
            ids.append(controls[part])
        elif part:
            for name, stand_in in stand_ins.items():
                part = part.replace(stand_in, name)
            ids += tokenizer.encode(part, special=False, allow_special=False)
    return ids


def _strings(value: Any) -> list[str]:
    """Every text in plain data."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in _strings(item)]


def _replaced(value: Any, stand_ins: dict[str, str]) -> Any:
    """Plain data with every control token's name in it exchanged for its stand-in, longest
    first."""
    if isinstance(value, str):
        for name in sorted(stand_ins, key=len, reverse=True):
            value = value.replace(name, stand_ins[name])
        return value
    if isinstance(value, dict):
        return {key: _replaced(item, stand_ins) for key, item in value.items()}
    return [_replaced(item, stand_ins) for item in value] if isinstance(value, list) else value


def _unused(text: str, count: int) -> list[str]:
    """Private characters (plane 15) that `text` does not contain."""
    found: list[str] = []
    code = 0xF0000
    while len(found) < count:
        if chr(code) not in text:
            found.append(chr(code))
        code += 1
    return found
