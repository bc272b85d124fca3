"""Upkeep: the sweeps of a fleet, each once when it is due, however many schedulers and workers there are.

A sweep clears what crashes leave behind and cares for what is kept: dead uploads, reports of closed jobs,
jobs that a loss of Redis left behind. It is a message like a step's: the scheduler rings when one is due, and
so does any worker when nobody rang for a while; the worker that gets the message takes the turn in Redis,
works for a bite of time, and records what was swept (`distworker status` shows it). A sweep may be killed
anywhere and may, when its worker froze, run twice at once: each asks before it removes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from distworker.errors import DistworkerError, Draining, InvalidRequest, Lost, StateUnavailable
from distworker.logs import redact
from distworker.retrying import Backoff
from distworker.service.background import Repeat
from distworker.state.turns import Turns, counted

log = logging.getLogger(__name__)

#: Seconds of one bite: a sweep that has more to do goes on in the next message, and steps are not kept
#: waiting for its thread.
BITE: Final = 20.0
#: Seconds between two signs of life of a running sweep; its turn holds for 120 s.
SIGN: Final = 10.0
#: Seconds after which a failed sweep is tried again, unless it is due sooner.
AGAIN: Final = 60.0
#: Seconds a worker leaves to the scheduler before it rings itself.
SLACK: Final = 15.0
#: How often a worker looks whether something is overdue.
LOOK: Final = 5.0


class Bite:
    """What a sweep is given: `alive` to call between two pieces of work, and how long it should go on."""

    def __init__(self, alive: Callable[[], None], seconds: float = BITE) -> None:
        self._alive = alive
        self._end = time.monotonic() + seconds

    def alive(self) -> None:
        """Raises Draining when this worker stops, Lost when another one has the turn."""
        self._alive()

    @property
    def left(self) -> float:
        """Seconds until the sweep should give its thread back; never below 0."""
        return max(0.0, self._end - time.monotonic())


#: Does a bite of work: what was swept by name, and whether there is more to do now.
Sweep = Callable[[Bite], tuple[Mapping[str, int], bool]]


class Upkeep:
    """The sweeps as one worker process runs them. `every`: seconds from one to the next by name, 0 for never;
    `ring` sends a sweep's message."""

    def __init__(
        self,
        turns: Turns,
        sweeps: Mapping[str, Sweep],
        every: Mapping[str, float],
        owner: str,
        ring: Callable[[str], None],
    ) -> None:
        self._turns = turns
        self._sweeps = sweeps
        self._every = {name: seconds for name, seconds in every.items() if name in sweeps}
        self._owner = owner
        self._ring = ring
        self._stopping = threading.Event()
        self._thread = Repeat("ring for sweeps", self.look, LOOK, self._stopping, Backoff(1, 2, 30, 1_000))

    def start(self) -> None:
        """Look for overdue sweeps from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End running sweeps at their next sign of life."""
        self._stopping.set()

    def look(self) -> None:
        """Ring for what is overdue and nobody rang for."""
        ring_due(self._turns, self._every, self._ring, SLACK)

    def run(self, name: str) -> str:
        """Take the turn, do a bite of that sweep, record it; returns the sentence an operator reads.

        Raises:
            InvalidRequest: there is no such sweep.
            DistworkerError: the sweep failed; it is recorded and tried again later.
            StateUnavailable: Redis is away.
        """
        sweep, every = self._sweeps.get(name), self._every.get(name, 0.0)
        if sweep is None:
            raise InvalidRequest(f"no sweep {name!r}; there are {', '.join(self._sweeps)}", field="sweep")
        if not every:
            return f"{name} is switched off"
        token = self._turns.take(name, self._owner, every)
        if token is None:
            return f"superseded: {name} is not due, or another worker is at it"
        try:
            swept, more = sweep(Bite(_Signs(self._turns, name, token, self._stopping)))
        except (Draining, Lost) as error:
            self._turns.end(name, token, {}, 0, over=False)
            return f"{name} stops: {error.message}"
        except Exception as error:
            text = redact(str(error)) if isinstance(error, DistworkerError) else type(error).__name__
            self._turns.end(name, token, {}, min(every, AGAIN), over=False, error=text)
            raise
        held = self._turns.end(name, token, swept, 0 if more else every, over=not more)
        if more and held:
            self._ring_on(name)
        return f"{name}: {counted(swept)}{', more to do' if more else ''}"

    def _ring_on(self, name: str) -> None:
        try:
            self._ring(name)
        except StateUnavailable as error:
            log.info("the next bite of %s waits for a later ring: %s", name, error)


class _Signs:
    """Signs of life of one turn."""

    def __init__(self, turns: Turns, name: str, token: str, stopping: threading.Event) -> None:
        self._turns = turns
        self._name = name
        self._token = token
        self._stopping = stopping
        self._due = time.monotonic() + SIGN

    def __call__(self) -> None:
        if self._stopping.is_set():
            raise Draining("this worker is stopping")
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + SIGN
        if not self._turns.keep(self._name, self._token):
            raise Lost("another worker has this sweep now")


def ring_due(turns: Turns, every: Mapping[str, float], ring: Callable[[str], None], slack: float) -> None:
    """Ring for each sweep that is overdue by `slack` seconds, unless somebody just did."""
    for name, seconds in every.items():
        if seconds and turns.ring(name, slack, seconds):
            ring(name)
