"""Lines of text by the width that characters really have on a terminal. No rich: `--help` must be
quick.
"""

from __future__ import annotations

import re
import unicodedata

OPENING, CLOSING = "（「『《“‘", "，。、；：？！）」』》”’"  # may not end a line; may not begin one
LEADING, TRAILING = (
    OPENING + r"(\[",
    CLOSING + r")\]",
)  # those of an alphabet may stand inside a word
HELD = "\u00a0"  # a space that no line ends at
# what stays together: spaces; a word in an alphabet or one wide character, with what HELD ties on
WORD = rf"(?:[{LEADING}]+ ?)?(?:[^\s\u2e80-\uffef{OPENING}{CLOSING}]+|\S)[{TRAILING}]*"
PIECE = re.compile(rf"[^\S{HELD}]+|(?:{HELD}+|{WORD})(?:{HELD}+(?:{WORD})?)*")


def wrap(sentence: str, width: int) -> str:
    """`sentence` in lines of at most `width` columns: broken at spaces and between Chinese
    characters.
    """
    lines = []
    for paragraph in sentence.split("\n"):
        line = ""
        for piece in PIECE.findall(paragraph):
            if line and columns(line + piece.rstrip()) > width:
                lines.append(line.rstrip())
                line = piece.lstrip()
            else:
                line += piece
        lines.append(line.rstrip())
    return "\n".join(lines)


def columns(string: str) -> int:
    """How many columns of a terminal `string` takes."""
    return sum(
        2
        if unicodedata.east_asian_width(character) in "WF"
        else 0
        if unicodedata.combining(character)
        else 1
        for character in string
    )
