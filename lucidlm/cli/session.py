"""What every command is given: the language, and where its words go. Answers to stdout, all else to
stderr.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lucidlm.locale import text
from lucidlm.terminal.wrap import wrap

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Session:
    """One call of the program. rich is imported when something is drawn with it."""

    lang: str

    def say(self, key: str, **values: object) -> str:
        """The text called `key` in the user's language."""
        return text(key, self.lang, **values)

    @property
    def width(self) -> int:
        """Columns to write in."""
        return max(40, min(100, shutil.get_terminal_size((80, 24)).columns))

    @cached_property
    def out(self) -> Console:
        """stdout, drawn on."""
        return _console(stderr=False)

    @cached_property
    def err(self) -> Console:
        """stderr, drawn on."""
        return _console(stderr=True)

    def answer(self, content: dict[str, Any] | list[Any]) -> None:
        """The command's answer as JSON, one line, in UTF-8 whatever the terminal's encoding."""
        line = json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"
        sys.stdout.flush()
        if hasattr(sys.stdout, "buffer"):
            sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace"))
        else:
            sys.stdout.write(line)
        sys.stdout.flush()

    @contextmanager
    def busy(self, sentence: str) -> Iterator[None]:
        """Says on a terminal what is being waited for, and wipes it out afterwards."""
        if not sys.stderr.isatty():
            yield
            return
        with self.err.status(sentence):
            yield

    @contextmanager
    def progress(self, sentence: str) -> Iterator[Callable[[str], None]]:
        """Like `busy`, and what is yielded puts another sentence in the place of the first."""
        if not sys.stderr.isatty():
            yield lambda sentence: None
            return
        with self.err.status(sentence) as status:
            yield status.update

    def note(self, sentence: str) -> None:
        """A remark beside the answer."""
        if sys.stderr.isatty():
            sentence = wrap(sentence, self.err.width)
        self.err.print(sentence, style="dim", soft_wrap=True)

    def complain(self, sentence: str, *, error: bool = True) -> None:
        """What went wrong, on stderr, behind whatever line the cursor stands in."""
        label = self.say("cli.error") if error else ""
        if error and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
            label = f"\x1b[1;31m{label}\x1b[0m"
        try:
            sys.stderr.write(label + sentence + "\n")
            sys.stderr.flush()
        except OSError:  # nobody is listening
            return


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    from lucidlm.terminal.trim import Trimming

    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    console.push_render_hook(Trimming())
    return console
