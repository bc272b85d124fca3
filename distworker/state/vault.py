"""Small secrets that the workers of a fleet share through Redis, which sees none of them (`sealed.py`).

Everything has a time to live.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from distworker.state.connection import Connection
from distworker.state.sealed import Sealed


class RedisVault(Sealed):
    """Values by name, each for a limited time. No method ever raises; safe to share between threads."""

    def __init__(self, redis: Connection, secret: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(redis, secret, "tokens", "vault", clock)

    def read(self, name: str) -> tuple[bytes, float] | None:
        """The value and the seconds it has left; None when there is none."""
        key = self._redis.key("vault", self._mark(name))

        def run() -> tuple[str | None, int]:
            with self._redis.client.pipeline(transaction=True) as pipe:
                pipe.get(key)
                pipe.pttl(key)
                text, left = pipe.execute()
            return text, int(left)

        nothing: tuple[str | None, int] = (None, 0)
        text, left = self._asked(run, nothing)
        value = self._opened(name, text) if text and left > 0 else None
        return None if value is None else (value, left / 1000)

    def write(self, name: str, value: bytes, seconds: float) -> None:
        """Keep it for so long, replacing what was there; not at all for less than a second."""
        if seconds >= 1:
            text = self._closed(name, value)
            key = self._redis.key("vault", self._mark(name))
            self._asked(lambda: self._redis.client.set(key, text, px=int(seconds * 1000)), None)

    def erase(self, name: str) -> None:
        """Forget it."""
        key = self._redis.key("vault", self._mark(name))
        self._asked(lambda: self._redis.client.delete(key), None)

    def claim(self, name: str, seconds: float) -> str:
        """Take the lock of that name for at most so long: a token to free it with, "" when it is taken. When
        Redis is away everyone gets one.
        """
        token = secrets.token_hex(16)
        key = self._redis.key("vault_turn", self._mark(name))
        taken = self._asked(
            lambda: bool(self._redis.client.set(key, token, nx=True, px=int(seconds * 1000))), True
        )
        return token if taken else ""

    def free(self, name: str, token: str) -> None:
        """Give the lock back, if it is still held by that token."""
        self._asked(lambda: self._redis.run("free", self._mark(name), token), None)
