"""A vault in memory: what several pools of one process share in tests."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable


class MemoryVault:
    """See `registry.sharedtokens.Vault`. `values` and `locks` hold (what, until)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.values: dict[str, tuple[bytes, float]] = {}
        self.locks: dict[str, tuple[str, float]] = {}
        self._clock = clock
        self._lock = threading.Lock()

    def read(self, name: str) -> tuple[bytes, float] | None:
        with self._lock:
            value, until = self.values.get(name, (b"", 0.0))
            left = until - self._clock()
            return (value, left) if left > 0 else None

    def write(self, name: str, value: bytes, seconds: float) -> None:
        with self._lock:
            self.values[name] = (value, self._clock() + seconds)

    def erase(self, name: str) -> None:
        with self._lock:
            self.values.pop(name, None)

    def claim(self, name: str, seconds: float) -> str:
        with self._lock:
            if self.locks.get(name, ("", 0.0))[1] > self._clock():
                return ""
            token = secrets.token_hex(4)
            self.locks[name] = (token, self._clock() + seconds)
            return token

    def free(self, name: str, token: str) -> None:
        with self._lock:
            if self.locks.get(name, ("", 0.0))[0] == token:
                del self.locks[name]
