"""The line between a running step and its worker, as plain memory: no lock and no call on the byte path.

A step writes how far it is and asks before each chunk whether it must stop; the runner's beat thread reads
the one and sets the other. The first reason to stop stays.
"""

from __future__ import annotations

from distworker.errors import Cancelled, Interrupted, Lost


class RunWatch:
    """The `Watch` of one run. Steps write and read plain attributes; the beat thread does the talking."""

    __slots__ = ("_stop", "bytes", "id", "size", "token")

    def __init__(self, step: str, token: str, size: int) -> None:
        self.id = step
        self.token = token
        self.size = size
        self.bytes = 0
        self._stop: Interrupted | None = None

    def moved(self, total: int) -> None:
        """Absolute bytes moved so far by this run."""
        self.bytes = total

    def check(self) -> None:
        """Raises Cancelled, Lost or Draining when the run must stop now."""
        if self._stop is not None:
            raise self._stop

    def stop(self, reason: Interrupted) -> None:
        """Make the next `check` raise; the first reason stays."""
        if self._stop is None:
            self._stop = reason

    @property
    def lost(self) -> bool:
        """Whether the ledger said that this run no longer holds the step."""
        return isinstance(self._stop, (Lost, Cancelled))
