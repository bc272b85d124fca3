"""How commands about the store show how far they are: on stderr, in a terminal as one line with a bar."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import click

from distworker.errors import clean
from distworker.names import VERSION

#: Seconds between two signs of progress, in a terminal and elsewhere.
_QUICK: Final = 0.2
_SLOW: Final = 10.0
_WIDTH: Final = 20
_CLEAR: Final = "\r\x1b[K"


class Progress:
    """One line that says how far it is; leaves nothing of itself behind. Use it as a context."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._terminal = sys.stderr.isatty()
        self._spoke = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._terminal:
            click.echo(_CLEAR, nl=False, err=True)

    def at(self, text: str, share: float | None = None) -> None:
        """Where it is now; `share` of 1 is known to be done."""
        now = time.monotonic()
        if now - self._spoke < (_QUICK if self._terminal else _SLOW):
            return
        self._spoke = now
        line = f"{self._what}: {clean(text, 100)}"
        if not self._terminal:
            click.echo(line, err=True)
            return
        if share is not None:
            full = round(min(1.0, share) * _WIDTH)
            line = f"{'━' * full}{' ' * (_WIDTH - full)} {line}"
        click.echo(f"{_CLEAR}{line}", nl=False, err=True)


def event(name: str, record: Mapping[str, Any]) -> None:
    """One line of `--json`."""
    click.echo(json.dumps({"event": name, "v": VERSION, **record}, ensure_ascii=False))


def many(count: int, what: str) -> str:
    """`1 blob`, `2 blobs`."""
    return f"{count} {what}{'' if count == 1 else 's'}"
