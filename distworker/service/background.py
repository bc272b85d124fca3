"""A thread that does one thing again and again, and outlives every error: leases hang on it.

Quick to try again while something is away, one line in the log when trouble begins and at each doubling:
an outage of Redis must not fill the disk.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from distworker.errors import DistworkerError
from distworker.retrying import Backoff

log = logging.getLogger(__name__)


class Repeat:
    """Does `work` every `every` seconds from `start` until `stopping` is set; after a failure as soon as
    `backoff` says. `name` is the thread's and stands in its log lines."""

    def __init__(
        self, name: str, work: Callable[[], None], every: float, stopping: threading.Event, backoff: Backoff
    ) -> None:
        self._name = name
        self._work = work
        self._every = every
        self._stopping = stopping
        self._backoff = backoff
        self._thread = threading.Thread(target=self._run, name=f"distworker-{name}", daemon=True)

    def start(self) -> None:
        """The first round begins at once."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for its end, which comes after the round it is in; no effect when it was never started."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        failures = 0
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                self._work()
                if failures:
                    log.info("the %s works again after %d failures", self._name, failures)
                failures, wait = 0, self._every
            except Exception as error:  # noqa: BLE001 - see the module text
                failures += 1
                wait = min(self._every, self._backoff.delay(failures))
                self._grumble(error, failures)

    def _grumble(self, error: Exception, failures: int) -> None:
        if failures & (failures - 1):
            return
        trace = None if isinstance(error, DistworkerError) else error
        log.warning("the %s failed (%d): %s", self._name, failures, error, exc_info=trace)
