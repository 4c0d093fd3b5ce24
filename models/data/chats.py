"""Pairs, questions and talk as the conversations that `mini` learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

Pair = tuple[str, str]  # Chinese, English
Turn = tuple[str, str]  # what the user says, what is answered
Row = dict[str, Any]

# How people ask for a translation, by the language it goes into, the commonest first.
ASKING = {
    "en": (
        ("翻译:", 8),
        ("翻译：", 6),
        ("翻译成英语：", 2),
        ("翻译成英文：", 2),
        ("用英语怎么说：", 1),
        ("Translate: ", 2),
        ("Translate into English: ", 1),
    ),
    "zh": (
        ("翻译:", 6),
        ("翻译：", 4),
        ("Translate: ", 4),
        ("Translate into Chinese: ", 2),
        ("翻译成中文：", 2),
        ("翻译成汉语：", 1),
    ),
}
READY = (("翻译：", "请说。"), ("翻译:", "请说。"), ("Translate:", "Go ahead."))
TURNS = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4)
MARKS = "。.！!？?"


def chat(turns: Iterable[Turn]) -> Row:
    """A conversation as a row of data."""
    messages = []
    for said, answer in turns:
        messages.append({"role": "user", "content": said})
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages}


def question(asked: str, earlier: Sequence[Turn], answer: str) -> Row:
    """The last thing asked in a conversation, and the answer that counts, for an evaluation."""
    messages = chat(earlier)["messages"]
    return {"messages": [*messages, {"role": "user", "content": asked}], "answer": answer}


def translations(pairs: Iterable[Pair], into: str, random: Random) -> Iterator[Row]:
    """Conversations that translate every pair once, into `into` ("en" or "zh").

    The first line asks for it, before a sentence or alone; later lines are only sentences, which
    go on being translated.
    """
    waiting: list[Turn] = []
    size = random.choice(TURNS)
    for chinese, english in pairs:
        waiting.append((chinese, english) if into == "en" else (english, chinese))
        if len(waiting) == size:
            yield chat(_asked(waiting, into, random))
            waiting, size = [], random.choice(TURNS)
    if waiting:
        yield chat(_asked(waiting, into, random))


def plain(pairs: Iterable[Pair], into: str) -> Iterator[Row]:
    """The same without roles: what `run` continues."""
    for chinese, english in pairs:
        source, target = (chinese, english) if into == "en" else (english, chinese)
        yield {"text": f"翻译:{source}\n{target}"}


def without_mark(pair: Pair) -> Pair:
    """The pair as people type it in a hurry: no mark at the end of either side."""
    return pair[0].rstrip(MARKS), pair[1].rstrip(MARKS)


def hurried(pairs: Iterable[Pair], share: float, random: Random) -> Iterator[Pair]:
    """`pairs`, a `share` of them without their last marks. A question keeps its own: it is part of
    what is said.
    """
    for pair in pairs:
        is_question = pair[0].endswith(("？", "?"))
        yield without_mark(pair) if not is_question and random.random() < share else pair


def _asked(turns: list[Turn], into: str, random: Random) -> list[Turn]:
    """The turns of one conversation, with the words that ask for a translation put in."""
    if random.random() < 0.08:
        first = READY[-1] if into == "zh" and random.random() < 0.5 else random.choice(READY[:2])
        return [first, *turns]
    forms, weights = zip(*ASKING[into], strict=True)
    form = random.choices(forms, weights)[0]
    asked = [(form + turns[0][0], turns[0][1])]
    for said, answer in turns[1:]:
        asked.append((form + said if random.random() < 0.15 else said, answer))
    return asked
