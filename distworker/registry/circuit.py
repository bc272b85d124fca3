"""A registry that fails again and again is left alone for a while.

Otherwise a hundred steps each find it out for themselves, slot by slot, while it tries to get up. After
`FAILURES_IN_A_ROW` faults of one origin, requests to it fail at once with the time to wait; when that is over
one request may try, and its luck decides for the others. A refusal (4xx, 429 too) is an answer, not a fault:
somebody is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from distworker.registry.urls import Origin
from distworker.registry.waits import CIRCUIT_SECONDS, FAILURES_IN_A_ROW


class Circuit:
    """Faults in a row by origin; shared by the threads of one client."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._faults: dict[Origin, int] = {}
        self._until: dict[Origin, float] = {}

    def wait(self, origin: Origin) -> float:
        """Seconds before this origin may be asked again; 0.0: now. Whoever gets 0.0 after an outage is the
        one that tries: the others wait on.
        """
        if origin not in self._until:  # the usual case costs no lock
            return 0.0
        with self._lock:
            until = self._until.get(origin)
            now = self._clock()
            if until is None:
                return 0.0
            if until > now:
                return until - now
            self._until[origin] = now + CIRCUIT_SECONDS
            return 0.0

    def worked(self, origin: Origin) -> None:
        """It answered."""
        if origin in self._faults:
            with self._lock:
                self._faults.pop(origin, None)
                self._until.pop(origin, None)

    def failed(self, origin: Origin) -> None:
        """It did not answer, or with a fault of its own."""
        with self._lock:
            self._faults[origin] = self._faults.get(origin, 0) + 1
            if self._faults[origin] >= FAILURES_IN_A_ROW:
                self._until[origin] = self._clock() + CIRCUIT_SECONDS
