"""The lists of referrers, changed by one worker of the fleet at a time.

The lock only saves work: whoever changes a list reads it back and merges again (`subjects.py`), so a lock
that ran out, or a vault that is away, costs another round and loses no entry that was seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distworker import stopping
from distworker.registry.sharedtokens import Vault
from distworker.registry.subjects import LocalLocks
from distworker.registry.waits import SUBJECT_POLL, SUBJECT_TURN


class VaultLocks:
    """See `subjects.SubjectLocks`: one holder in this process, and one in the fleet."""

    def __init__(
        self,
        vault: Vault,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = stopping.sleep,
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._sleep = sleep
        self._here = LocalLocks()

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Wait for the lock `name`, for at most as long as anybody may hold it, and hold it."""
        name = f"referrers {name}"
        with self._here.hold(name):
            token = self._claim(name)
            try:
                yield
            finally:
                if token:
                    self._vault.free(name, token)

    def _claim(self, name: str) -> str:
        end = self._clock() + SUBJECT_TURN
        while not (token := self._vault.claim(name, SUBJECT_TURN)) and self._clock() < end:
            self._sleep(SUBJECT_POLL)
        return token
