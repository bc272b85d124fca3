"""Ctrl-C, typed into a real terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("terminal_driver.py")
CTRL_C = b"\x03"

Start = Callable[..., "Terminal"]


class Terminal:
    """The command in a terminal: what it shows, and a keyboard."""

    def __init__(self, *arguments: str) -> None:
        self._end, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        )
        os.close(other)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until `text` was shown; fails when the command ends first."""
        while text not in self.shown:
            assert self._read(), f"ended before {text!r}; shown: {self.shown}"

    def type(self, keys: bytes) -> None:
        os.write(self._end, keys)

    def finish(self) -> int:
        """The exit code, once everything was shown."""
        while self._read():
            pass
        return self.process.wait(60)

    def _read(self) -> bool:
        try:
            data = os.read(self._end, 4096)
        except OSError:  # Linux says EIO when the other end is closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)


@pytest.fixture
def start() -> Iterator[Start]:
    opened: list[Terminal] = []

    def begin(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield begin
    for terminal in opened:
        terminal.close()


def test_the_first_ctrl_c_leaves_the_job_running_and_says_how_to_stop_it(start: Start) -> None:
    """Id and cancel command are shown, connections are closed, exit 130."""
    terminal = start("quick")
    terminal.wait_for("of 1 images")

    terminal.type(CTRL_C)

    assert terminal.finish() == 130
    job = re.search(r"detached: job (\d{8}-\w{8}) goes on", terminal.shown)
    assert job is not None
    assert f"distworker cancel {job[1]}" in terminal.shown
    assert "closed" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_the_second_ctrl_c_ends_at_once(start: Start) -> None:
    """Whoever presses it again does not wait for a server that does not answer."""
    terminal = start("slow")
    terminal.wait_for("of 1 images")
    terminal.type(CTRL_C)
    terminal.wait_for("closing")

    terminal.type(CTRL_C)

    assert terminal.finish() == 130
    assert "distworker cancel" in terminal.shown
    assert "closed" not in terminal.shown
    assert "Traceback" not in terminal.shown


def test_in_local_mode_ctrl_c_stops_the_work(start: Start) -> None:
    """There is no fleet that could go on; what was verified stays for the next run."""
    terminal = start("quick", "--local")
    terminal.wait_for("of 1 images")

    terminal.type(CTRL_C)

    assert terminal.finish() == 130
    assert "closed" in terminal.shown
    assert "was stopped; run it again to go on" in terminal.shown
    assert "Traceback" not in terminal.shown
