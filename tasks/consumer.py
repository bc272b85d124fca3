"""Celery's consumer with patience: it sends events in batches, and leaves a broker that refuses alone for a
while.

A Redis that is read-only, full or cannot save takes connections and refuses what is done with them; Celery
would come again several times a second, each time with its lines in the log, as long as the trouble lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from celery.worker import state
from celery.worker.consumer import Consumer

#: Seconds before the second, third, … connection in a row; the first comes at once.
PAUSES: Final = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)
#: Seconds without an error after which the next one is a first one again.
CALM: Final = 10.0
#: Seconds between two looks whether the worker should stop.
LOOK: Final = 0.2


class PatientConsumer(Consumer):
    """What is configured as the worker's consumer.

    Workers here need not know of each other: without Celery's talk between them (gossip, and mingle at the
    start) a worker is ready a second sooner, and losing the broker puts no traceback into its log.
    """

    def __init__(self, *args: Any, worker_options: Mapping[str, Any] | None = None, **fields: Any) -> None:
        alone = {**(worker_options or {}), "without_gossip": True, "without_mingle": True}
        super().__init__(*args, worker_options=alone, **fields)

    _errors = 0
    _last_error = float("-inf")

    def on_send_event_buffered(self) -> None:
        """`tasks.events.EventBatches` sends it."""

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Celery comes again at once after this."""
        super().on_connection_error_before_connected(exc)
        self._wait()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The same, with a connection that was good for something."""
        super().on_connection_error_after_connected(exc)
        self._wait()

    def _wait(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Any] = time.sleep
    ) -> None:
        self._errors = self._errors + 1 if clock() - self._last_error < CALM else 0
        end = clock() + PAUSES[min(self._errors, len(PAUSES) - 1)]
        while clock() < end and not _stopping():
            sleep(min(LOOK, end - clock()))
        self._last_error = clock()


def _stopping() -> bool:
    """Whether the worker is to stop: then these are exit codes, and 0 is one."""
    flags = (state.should_stop, state.should_terminate)
    return any(flag is not None and flag is not False for flag in flags)
