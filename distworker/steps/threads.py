"""Helper threads that are kept: a client has its connections per thread, and a new TLS connection costs 15
ms.

Daemon threads, because a stalled send must not keep a worker from leaving. Idle ones are reused, the newest
first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

#: Idle threads kept; a worker rarely has more slots than this.
IDLE_MAX: Final = 16

_idle: list[_Helper] = []
_lock = threading.Lock()


def run_beside(work: Callable[[], None]) -> None:
    """Run `work` in another thread; it must not raise."""
    with _lock:
        helper = _idle.pop() if _idle else None
    (helper or _Helper()).give(work)


class _Helper:
    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="distworker-tee", daemon=True)
        self._thread.start()

    def give(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def _run(self) -> None:
        while True:
            self._work.get()()
            with _lock:
                if len(_idle) >= IDLE_MAX:
                    return
                _idle.append(self)


def _forget() -> None:
    """A forked child has the list, but not the threads."""
    global _lock  # noqa: PLW0603 - the lock may be held by a thread that does not exist in the child
    _lock = threading.Lock()
    _idle.clear()


os.register_at_fork(after_in_child=_forget)
