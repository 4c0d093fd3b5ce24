"""Text on stdout as a model writes it."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lucidlm.cli.session import Session

if TYPE_CHECKING:
    from lucidlm.generate import Step


@dataclass(frozen=True)
class Streamed:
    """What came of a stream. `reason` is why it ended, "cancelled" after Ctrl-C."""

    text: str
    tokens: int
    seconds: float
    reason: str


def stream(steps: Generator[Step, None, None] | Any) -> Streamed:
    """Write each step's text as it comes, and end the line. Ctrl-C ends the answer, not the
    program.
    """
    begun, parts, tokens, reason = time.perf_counter(), [], 0, "cancelled"
    try:
        for step in steps:
            tokens += 1
            parts.append(step.text)
            write(step.text)
            reason = step.finished or reason
    except KeyboardInterrupt:
        steps.close()
    seconds = time.perf_counter() - begun
    text = "".join(parts)
    if not text.endswith("\n"):
        write("\n")
    return Streamed(text, tokens, seconds, reason)


def write(text: str) -> None:
    """`text` to stdout at once; on a terminal, control characters show as escapes."""
    if sys.stdout.isatty():
        from lucidlm.terminal.show import harmless

        text = harmless(text)
    sys.stdout.write(text)
    sys.stdout.flush()


def summarize(session: Session, streamed: Streamed) -> None:
    """One quiet line about the run, for people only."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        rate = streamed.tokens / streamed.seconds if streamed.seconds else 0.0
        key = f"cli.stopped_{streamed.reason}"
        summary = session.say(
            "cli.summary", tokens=streamed.tokens, rate=f"{rate:.1f}", reason=session.say(key)
        )
        session.note(summary)
