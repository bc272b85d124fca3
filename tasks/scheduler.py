"""`celery -A tasks beat`: rings for each sweep when it is due. Any number may run, and none is needed.

When a sweep is due stands in Redis and not in a file of this process, so a scheduler may be killed and
started anywhere; a worker rings when nobody else did.
"""

from __future__ import annotations

import logging
from typing import Any

from celery.beat import Scheduler

from distworker import logs
from distworker.errors import DistworkerError
from distworker.service.upkeep import ring_due
from distworker.service.wiring import Bell, build_bell
from tasks.app import USAGE, refuse_start, settings
from tasks.graph import dispatch

log = logging.getLogger(__name__)

#: Seconds between two looks.
LOOK = 2.0


class TurnScheduler(Scheduler):
    """Celery's beat asks it how long to wait; the schedule is the fleet's own."""

    _bell: Bell | None = None
    _failures = 0

    def setup_schedule(self) -> None:
        """Nothing is kept here; makes the connection to Redis."""
        try:
            self._bell = build_bell(settings())
        except DistworkerError as error:
            refuse_start(str(error), USAGE)

    def tick(self, *_: Any, **__: Any) -> float:
        """Ring for what is due; returns the seconds until the next look."""
        bell = self._bell
        if bell is None:
            return LOOK
        try:
            ring_due(bell.turns, bell.every, dispatch.ring, 0.0)
            self._failures = 0
        except DistworkerError as error:
            self._grumble(error)
        return LOOK

    def close(self) -> None:
        """Give up the connection."""
        if self._bell is not None:
            self._bell.close()

    def _grumble(self, error: DistworkerError) -> None:
        self._failures += 1
        if not self._failures & (self._failures - 1):
            log.warning("cannot ring for sweeps (%d): %s", self._failures, logs.redact(str(error)))
