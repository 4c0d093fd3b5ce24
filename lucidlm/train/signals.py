"""Ctrl-C and SIGTERM end a run between two steps, with a checkpoint; a second Ctrl-C at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Which signal has come, if any."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None

    def take(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        first, self.name = self.name is None, signal.Signals(number).name
        if first:
            self.tell(self.name)


@contextmanager
def interrupts(tell: Callable[[str], None]) -> Iterator[Interrupts]:
    """Signals that come inside the block are noted, and the first is told.

    Python delivers signals to the main thread alone; in another the block notes nothing.
    """
    noted = Interrupts(tell)
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before: dict[signal.Signals, Any] = {one: signal.signal(one, noted.take) for one in SIGNALS}
    try:
        yield noted
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
