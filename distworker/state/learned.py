"""What one worker learned about a registry, for all workers: short texts by origin and name, with an end.

Structurally the `Facts` port of the registry room, which checks every text again when it comes back. One hash
per origin, gone a day after its last change; a hash that grows too large is emptied, since everything in it
can be learned again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from distworker.state.connection import Connection

#: Seconds a hash outlives its last change; no fact lives longer.
KEEP: Final = 86_400
#: Facts of one origin; those about single repositories make it many.
FACTS_MAX: Final = 1_000
#: Longest text kept or believed.
TEXT_MAX: Final = 100


class RedisFacts:
    """`life` gives the seconds that a fact of that name is believed. `clock` is Unix seconds."""

    def __init__(
        self, connection: Connection, life: Callable[[str], float], clock: Callable[[], float] = time.time
    ) -> None:
        self._redis = connection
        self._life = life
        self._clock = clock

    def get(self, origin: str, name: str) -> str:
        """The text, "" when there is none or it is old; StateUnavailable when Redis is."""
        with self._redis.errors():
            found = self._redis.client.hget(self._redis.key("fact", origin), name)
        end, _, text = str(found or "")[: TEXT_MAX + 20].partition(" ")
        if not (end.isascii() and end.isdigit()):
            return ""
        left = int(end) - self._clock()
        # An end too far away was written by another clock, or by no worker.
        return text if 0 < left <= min(self._life(name), KEEP) + 60 else ""

    def put(self, origin: str, name: str, value: str) -> None:
        """Remember `value`; StateUnavailable when Redis is away."""
        key = self._redis.key("fact", origin)
        end = int(self._clock() + min(self._life(name), KEEP))
        with self._redis.errors(), self._redis.client.pipeline(transaction=True) as pipe:
            pipe.hset(key, name, f"{end} {value[:TEXT_MAX]}")
            pipe.expire(key, KEEP)
            pipe.hlen(key)
            count = int(pipe.execute()[-1])
            if count > FACTS_MAX:
                self._redis.client.delete(key)
