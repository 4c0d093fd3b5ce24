"""`chat`: turns, commands, a context that fills up, Ctrl-C on a real terminal."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import tiny

from lucidlm import api
from lucidlm.cli.main import main

if sys.platform != "win32":
    import pty
    import termios

CONTEXT = 128
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {
        "chat": str(tiny.build(root / "chat", "llama", positions=CONTEXT, chat=True)),
        "base": str(tiny.build(root / "base", "llama")),
        "marian": str(tiny.build(root / "marian", "marian")),
    }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, str]]]:
    """The messages of every question that the model was put."""
    seen: list[list[dict[str, str]]] = []
    original = api.Model.chat

    def spy(self: api.Model, messages: Any, **options: Any) -> Any:
        seen.append([dict(message) for message in messages])
        return original(self, messages, **options)

    monkeypatch.setattr(api.Model, "chat", spy)
    return seen


def talk(monkeypatch: pytest.MonkeyPatch, lines: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    return main(["chat", *arguments])


def test_turns_are_remembered_and_can_be_forgotten(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture, asked: list[Any]
) -> None:
    lines = "The cat\n\nsat on\n/reset\nthe mat\n/quit\nnever read\n"
    options = ["--model", folders["chat"], "--system", "Be", "--max-new-tokens", "3", "--json"]
    assert talk(monkeypatch, lines, *options) == 0
    out, err = capsys.readouterr()
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["prompt"] for answer in answers] == ["The cat", "sat on", "the mat"]
    assert all(len(answer["tokens"]) <= 3 for answer in answers)
    roles = [[message["role"] for message in messages] for messages in asked]
    assert roles == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
        ["system", "user"],
    ]
    assert asked[1][2]["content"] == answers[0]["text"].strip()
    assert err.splitlines() == ["What was said is forgotten."]


def test_a_pipe_is_answered_line_by_line(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert (
        talk(monkeypatch, "The cat\n/what", "--model", folders["chat"], "--max-new-tokens", "4")
        == 0
    )
    out, err = capsys.readouterr()
    messages = [{"role": "user", "content": "The cat"}]
    expected = api.load(folders["chat"]).chat(messages, max_new_tokens=4).text
    assert out == expected.removesuffix("\n") + "\n" and "two commands" in err


def test_a_base_model_is_framed_and_says_so(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    options = ["--model", folders["base"], "--max-new-tokens", "2", "--lang", "zh"]
    assert talk(monkeypatch, "我\n", *options) == 0
    assert "基座模型" in capsys.readouterr().err


def test_the_oldest_turns_go_when_the_context_is_full(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture, asked: list[Any]
) -> None:
    """The system's message and the newest question stay; it is said how many turns went."""
    lines = "".join(f"The cat sat {i}\n" for i in range(6))
    options = ["--model", folders["chat"], "--system", "Be", "--max-new-tokens", "8", "--json"]
    assert talk(monkeypatch, lines, *options) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 6 and "no longer seen" in err
    assert all(messages[0]["role"] == "system" for messages in asked)
    assert [messages[-1]["content"] for messages in asked] == lines.splitlines()
    model = api.load(folders["chat"])
    assert all(len(model.chat_ids(messages)) + 8 <= CONTEXT for messages in asked)


def test_a_question_too_long_for_the_context(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert talk(monkeypatch, "x y z " * 60, "--model", folders["chat"]) == 2
    assert f"context holds {CONTEXT}" in capsys.readouterr().err


def test_a_translator_cannot_chat(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert talk(monkeypatch, "x\n", "--model", folders["marian"]) == 2
    assert "cannot chat" in capsys.readouterr().err


@dataclass
class Terminal:
    """A program on a terminal of its own."""

    process: subprocess.Popen[bytes]
    screen: int
    before: Any
    shown: bytes = b""

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def wait_for(self, pattern: bytes, seconds: float = 60) -> None:
        """Until what was shown since the last wait matches."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.shown)):
            assert time.monotonic() < end, f"{pattern!r} did not come: {self.shown!r}"
            if select.select([self.screen], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self.screen, 1 << 16)
                except OSError:  # the program has gone
                    self.shown += b"<gone>"
        self.shown = self.shown[found.end() :]


SLOW = """
import time, sys
from lucidlm import api
from lucidlm.cli.main import main
stream = api.Model.stream
def slowly(*args, **options):
    for step in stream(*args, **options):
        time.sleep(0.05)
        yield step
api.Model.stream = slowly
sys.exit(main())
"""


@pytest.fixture
def terminal(folders: dict[str, str]) -> Iterator[Terminal]:
    """`chat` with a model that never ends by itself and takes its time."""
    if sys.platform == "win32":
        pytest.skip("needs a pseudo-terminal")
    screen, seat = pty.openpty()
    before = termios.tcgetattr(seat)
    command = [
        sys.executable,
        "-c",
        SLOW,
        "chat",
        "--model",
        folders["chat"],
        "--max-new-tokens",
        "30",
    ]
    environment = os.environ | {"TERM": "xterm", "LUCIDLM_LANG": "en"}
    process = subprocess.Popen(
        command, stdin=seat, stdout=seat, stderr=seat, env=environment, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    found = Terminal(process, screen, before)
    try:
        yield found
        assert termios.tcgetattr(seat) == before, "the terminal's settings were left changed"
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(screen)
        os.close(seat)


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_and_then_leaves(terminal: Terminal) -> None:
    terminal.wait_for(b"/quit")
    terminal.wait_for(b"> ")
    terminal.type("The cat\n")
    terminal.wait_for(b"The cat\r\n")
    terminal.wait_for(rb"\S")  # the answer has begun
    terminal.type("\x03")
    terminal.wait_for(b"stopped")
    terminal.wait_for(b"> ")
    terminal.type("/reset\n")
    terminal.wait_for(b"forgotten")
    terminal.wait_for(b"> ")
    time.sleep(0.5)  # Python shows the prompt a moment before it listens for the key
    terminal.type("\x03")
    assert terminal.process.wait(20) == 0


@pytest.mark.slow
def test_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.wait_for(b"> ")
    terminal.type("\x04")
    assert terminal.process.wait(20) == 0
