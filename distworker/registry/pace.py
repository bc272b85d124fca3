"""The slowest a body may come: a timeout per read lets a server send one byte a minute for ever.

Only the time spent waiting for the server counts, so a reader that is slow itself is not held against it.
"""

from __future__ import annotations

from distworker.registry.waits import PACE_BYTES, PACE_SECONDS


class Pace:
    """Counts what came while we waited; one for each reply."""

    def __init__(self) -> None:
        self._waited = 0.0
        self._came = 0

    def slow(self, seconds: float, count: int) -> bool:
        """Add a read of `seconds` that brought `count` bytes. True: the last `PACE_SECONDS` brought less than
        they must, and the connection is not worth waiting for.
        """
        self._waited += seconds
        self._came += count
        if self._waited < PACE_SECONDS:
            return False
        too_slow = self._came < PACE_BYTES
        self._waited, self._came = 0.0, 0
        return too_slow
