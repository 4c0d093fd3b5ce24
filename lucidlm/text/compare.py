"""How many tokens a tokenizer spends on a Chinese character and on an English word, on a small
fixed sample."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lucidlm.text.tokenizer import Tokenizer

ENGLISH = (
    "The kettle had been singing for a minute before anyone noticed that the rain had stopped. "
    "Grandmother opened the window, and the smell of wet grass came in with the evening light. "
    "Nobody remembers who invented the wheel, yet everyone who repairs a bicycle rediscovers how "
    "clever it is. A computer follows instructions exactly, which is both its greatest strength "
    "and its most annoying habit. "
    "When the experiment failed for the third time, she changed only one thing and wrote down why."
)
CHINESE = (
    "水壶响了一分钟，才有人发现雨已经停了。奶奶推开窗户，青草的气味随着傍晚的光一起飘进来。"
    "没有人记得是谁发明了车轮，可是每个修过自行车的人都会再一次明白它有多巧妙。"
    "计算机严格地执行指令，这既是它最大的长处，也是它最让人恼火的习惯。"
    "实验第三次失败以后，她只改动了一处，并且把原因写了下来。"
)
WORDS = len(re.findall(r"[A-Za-z]+", ENGLISH))
CHARACTERS = len(re.findall(r"[\u4e00-\u9fff]", CHINESE))


@dataclass(frozen=True)
class Row:
    """One tokenizer's cost. `english_words` and `chinese_characters` are what the totals are
    divided by."""

    name: str
    kind: str
    vocab_size: int
    english_tokens: int
    chinese_tokens: int
    english_words: int = WORDS
    chinese_characters: int = CHARACTERS

    @property
    def per_word(self) -> float:
        """Tokens per English word, punctuation counted with the words."""
        return self.english_tokens / self.english_words

    @property
    def per_character(self) -> float:
        """Tokens per Chinese character, punctuation counted with the characters."""
        return self.chinese_tokens / self.chinese_characters


def compare(tokenizers: Mapping[str, Tokenizer]) -> list[Row]:
    """One row a tokenizer, in the order given."""
    return [
        Row(
            name=name,
            kind=tokenizer.kind,
            vocab_size=tokenizer.vocab_size,
            english_tokens=len(tokenizer.encode(ENGLISH, special=False)),
            chinese_tokens=len(tokenizer.encode(CHINESE, special=False)),
        )
        for name, tokenizer in tokenizers.items()
    ]
