"""Threads that take turns at each call of a store, in an order that the test chooses.

Every actor runs in a thread of its own but moves only when it is told to: up to and including its next call
of the store. So any interleaving of two programs can be made again from a list of numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

#: Seconds after which an actor that neither calls the store nor ends counts as hung.
GUARD = 20.0


class Actor:
    """One program at its store. `error` is what it raised, if it did."""

    def __init__(self, work: Callable[[Any], object], store: object) -> None:
        self.over = False
        self.error: BaseException | None = None
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work, _Paced(store, self.wait)), daemon=True)
        self._thread.start()
        self._settle()

    def step(self) -> None:
        """Let it make its next call and come to the one after that, or to its end."""
        if not self.over:
            self._go.release()
            self._settle()

    def finish(self) -> None:
        """Let it run to its end."""
        while not self.over:
            self.step()

    def wait(self, *_: object) -> None:
        """For the actor: stop here until told to go on; also what it does instead of sleeping."""
        self._stopped.release()
        self._go.acquire()

    def _settle(self) -> None:
        assert self._stopped.acquire(timeout=GUARD), "an actor hangs"

    def _run(self, work: Callable[[Any], object], store: object) -> None:
        try:
            work(store)
        except BaseException as error:
            self.error = error
        self.over = True
        self._stopped.release()


class _Paced:
    """A store whose every call waits for its turn first."""

    def __init__(self, store: object, wait: Callable[[], None]) -> None:
        self._store = store
        self._wait = wait

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        def paced(*arguments: Any, **options: Any) -> Any:
            self._wait()
            found = call(*arguments, **options)
            # A listing is taken at the moment of its call; what changes meanwhile is another test's matter.
            return iter(list(found)) if name == "list" else found

        return paced
