"""Upload sessions that are open at registries, kept for whoever takes the step next and for the sweep.

A session's Location is the permission to write through it, so it lies in Redis only encrypted (`sealed.py`);
a fleet without a secret in common, and local mode, keep sessions in the process. Each is kept by the step it
is for and the claim it was opened with: the next claim finds what an earlier one left and goes on with it or
cancels it. A help, never a need: no method raises.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from distworker.state.sealed import Sealed

if TYPE_CHECKING:
    from distworker.state.connection import Connection

#: Seconds a session is kept: registries forget theirs after hours or days.
KEEP: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class KeptSession:
    """An upload session of the step `step`, opened by the claim `token`, at `started` (Unix seconds).

    `host`, `credential` and `repository` say where; `location` and `min_chunk` are the session's own.
    """

    step: str
    token: str
    host: str
    credential: str
    repository: str
    location: str = field(repr=False)
    min_chunk: int = 0
    started: float = 0.0


class MemorySessions:
    """Sessions of this process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], KeptSession] = {}
        self._lock = threading.Lock()

    def keep(self, session: KeptSession) -> None:
        """Remember it, in place of what its step and claim had before."""
        with self._lock:
            self._kept[session.step, session.token] = session

    def of(self, step: str) -> Sequence[KeptSession]:
        """Those of a step, the newest first."""
        with self._lock:
            found = [session for session in self._kept.values() if session.step == step]
        return sorted(found, key=lambda session: -session.started)

    def drop(self, step: str, token: str) -> None:
        """Forget the one of that claim."""
        with self._lock:
            self._kept.pop((step, token), None)

    def oldest(self, limit: int) -> Sequence[KeptSession]:
        """Up to `limit` of all, the oldest first."""
        with self._lock:
            return sorted(self._kept.values(), key=lambda session: session.started)[:limit]


class RedisSessions(Sealed):
    """Sessions of the whole fleet."""

    def __init__(self, redis: Connection, secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(redis, secret, "upload sessions", "sessions", clock)

    def keep(self, session: KeptSession) -> None:
        """As in `MemorySessions`."""
        key, index = self._redis.key("session", session.step), self._redis.key("sessions")
        text = self._closed(session.step, json.dumps(asdict(session)).encode())

        def run() -> None:
            with self._redis.client.pipeline(transaction=True) as pipe:
                pipe.hset(key, session.token, text)
                pipe.expire(key, int(KEEP))
                pipe.zadd(index, {session.step: session.started})
                pipe.zremrangebyscore(index, 0, session.started - KEEP)
                pipe.execute()

        self._asked(run, None)

    def of(self, step: str) -> Sequence[KeptSession]:
        """As in `MemorySessions`."""
        key = self._redis.key("session", step)
        nothing: dict[Any, Any] = {}
        texts = self._asked(lambda: self._redis.client.hgetall(key), nothing)
        found = [self._read(step, str(text)) for text in texts.values()]
        return sorted((one for one in found if one), key=lambda session: -session.started)

    def drop(self, step: str, token: str) -> None:
        """As in `MemorySessions`."""
        self._asked(lambda: self._redis.run("forget_session", step, token), None)

    def oldest(self, limit: int) -> Sequence[KeptSession]:
        """As in `MemorySessions`, by steps."""
        nothing: list[Any] = []
        index = self._redis.key("sessions")
        steps = self._asked(lambda: [*self._redis.client.zrange(index, 0, limit - 1)], nothing)
        return [session for step in steps for session in self.of(str(step))][:limit]

    def _read(self, step: str, text: str) -> KeptSession | None:
        raw = self._opened(step, text)
        try:
            return KeptSession(**json.loads(raw)) if raw else None
        except (ValueError, TypeError):
            return None  # of a release that keeps more
