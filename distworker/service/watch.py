"""The line between a running step and its worker: a step tells how far it is and asks whether to go on.

On the byte path it is plain memory, without a lock or a call; the runner's beat thread reads the one and
says the other. A stop also ends what the step waits for (`distworker/stopping.py`); its first reason stays.

No run lasts for ever. Each wait inside has a bound of its own; the watch is the bound of all of them
together: a run that gives no sign for a quarter of an hour, or is far slower than any line that could carry
images, is stopped with `timeout`. One that does not even end then (a disk that hangs) loses its lease; if
its worker stops, its step is given back over its head. What it does later is refused, like a frozen worker's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from distworker.errors import Cancelled, Draining, Interrupted, Lost, RequestTimeout
from distworker.stopping import Stopper

log = logging.getLogger(__name__)

#: Seconds without a byte, a chunk or a request. The longest single wait is a registry's commit, five minutes.
IDLE_SECONDS: Final = 900.0
#: Seconds any run may last, and more of them for its bytes: 50 KiB/s is the least pace of a body.
RUN_SECONDS: Final = 86_400.0
RUN_SECONDS_PER_BYTE: Final = 1 / (50 << 10)
#: Seconds between a stop and the end of the run. What is shielded from the stop is over by then.
ENDING_SECONDS: Final = 600.0
#: The same when the worker stops: a store that is silent just then holds a run for minutes, and others wait.
HANDOVER_SECONDS: Final = 8.0


class RunWatch(Stopper):
    """The `Watch` of one run. `refusal` asks the ledger why this run does not hold its step any more; None
    while it does."""

    def __init__(
        self, step: str, token: str, size: int, refusal: Callable[[RunWatch], Interrupted | None]
    ) -> None:
        super().__init__(self._ask)
        self.id = step
        self.token = token
        self.size = size
        self.bytes = 0
        self._durable = 0
        self._durable_before: int | None = None
        self.handed_over = False
        self._refusal = refusal
        self._begun: float | None = None
        self._stopped: float | None = None
        self._seen = (0, 0)
        self._seen_at = 0.0

    def moved(self, total: int) -> None:
        """Absolute bytes moved so far by this run."""
        self.bytes = total

    def kept(self, total: int) -> None:
        """Absolute bytes that a successor can go on from; the first time: that this run goes on from."""
        if self._durable_before is None:
            self._durable_before = total
        self._durable = total

    @property
    def progressed(self) -> bool:
        """Whether more outlives this run than it found."""
        return self._durable > (self._durable_before or 0)

    @property
    def lost(self) -> bool:
        """Whether the ledger said that this run no longer holds the step."""
        return isinstance(self.reason, (Lost, Cancelled))

    @property
    def draining(self) -> bool:
        """Whether it was stopped because its worker stops: then its step may be given back for it."""
        return isinstance(self.reason, Draining)

    def overdue(self, now: float) -> bool:
        """Look at the run every few seconds, by any clock: stops it when its time is over. True: it did not
        end long after it was stopped, so nobody should keep its lease (see `draining`)."""
        self._look(now)
        if self.reason is None:
            return False
        if self._stopped is None:
            self._stopped = now
        late = now - self._stopped
        if self.draining:
            return late > HANDOVER_SECONDS
        if late > ENDING_SECONDS:
            log.error(
                "%s was stopped %.0f s ago and did not end; its lease is left to run out", self.id, late
            )
        return late > ENDING_SECONDS

    def _look(self, now: float) -> None:
        seen = (self.signs, self.bytes)
        if self._begun is None:
            self._begun = now
            self._seen_at = now
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        longest = RUN_SECONDS + self.size * RUN_SECONDS_PER_BYTE
        if now - self._seen_at > IDLE_SECONDS:
            self.stop(RequestTimeout(f"nothing moved for {IDLE_SECONDS / 60:.0f} minutes"))
        elif now - self._begun > longest:
            self.stop(RequestTimeout(f"it was not done after {longest / 3600:.0f} hours"))

    def _ask(self) -> None:
        reason = self._refusal(self)
        if reason is not None:
            self.stop(reason)
            self.check()


def not_ours(wanted: bool) -> Interrupted:
    """Why a run stops that does not hold its step any more."""
    return Lost("another worker has this step now") if wanted else Cancelled("nobody waits for this any more")
