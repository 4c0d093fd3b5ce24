"""Text out of tokens as they come: a character is given out when it is whole, never in halves."""

from __future__ import annotations

import codecs

from lucidlm.text.spelling import ESCAPE
from lucidlm.text.tokenizer import Tokenizer


class TextStream:
    """What `push` and, at the end, `flush` return is together `tokenizer.decode` of the same ids.

    Bytes that can no longer become a character come out as \\xE5; those that still may are held
    back.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, skip_special: bool = True, continued: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._drop_space = tokenizer.lead_space and not continued
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors=ESCAPE)

    def push(self, id: int) -> str:
        """Read one token; returns the text that became complete with it, often one word, sometimes
        nothing."""
        if self._skip_special and self._tokenizer.is_special(id):
            return ""
        data = self._tokenizer.bytes_of(id)
        if data and self._drop_space:
            self._drop_space = False
            data = data.removeprefix(b" ")
        return self._decoder.decode(data)

    def flush(self) -> str:
        """The end: what was held back, as visible escapes."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
