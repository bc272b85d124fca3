"""The line between a running step and its worker: a step tells how far it is and asks whether to go on.

On the byte path it is plain memory, without a lock or a call; the runner's beat thread reads the one and
says the other. A stop also ends what the step waits for (`distworker/stopping.py`); its first reason stays.
"""

from __future__ import annotations

from collections.abc import Callable

from distworker.errors import Cancelled, Interrupted, Lost
from distworker.stopping import Stopper


class RunWatch(Stopper):
    """The `Watch` of one run. `holds` asks the ledger whether the run of this watch still has its step."""

    def __init__(self, step: str, token: str, size: int, holds: Callable[[RunWatch], bool]) -> None:
        super().__init__(self._ask)
        self.id = step
        self.token = token
        self.size = size
        self.bytes = 0
        self.durable = 0  #: bytes that outlive this run
        self._holds = holds

    def moved(self, total: int) -> None:
        """Absolute bytes moved so far by this run."""
        self.bytes = total

    def kept(self, total: int) -> None:
        """Absolute bytes that a successor can go on from."""
        self.durable = total

    def _ask(self) -> None:
        if not self._holds(self):
            self.stop(not_ours())
            self.check()

    @property
    def lost(self) -> bool:
        """Whether the ledger said that this run no longer holds the step."""
        return isinstance(self.reason, (Lost, Cancelled))


def not_ours() -> Interrupted:
    """Why a run stops that the ledger does not know any more."""
    return Lost("nobody waits for this any more, or another worker has it now")
