"""How a run hears that it must stop while it waits: in a socket, in a pause, before its next call.

A step asks its watch before each chunk, but nobody asks while a chunk does not come. So the runner binds the
threads of a run to a `Stopper`; whoever says stop also hangs up the sockets those threads wait in, and their
pauses end. What must come to its end once begun (a tag's PUT with the look after it, taking back an upload
session) is done under `shielded()`: its own time-outs bound it.

Everything here works without a binding too, and then does nothing: libraries and tools call it as well.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator

from distworker.errors import DistworkerError


class _Thread(threading.local):
    """The calling thread: sockets it opened, the run it works for, and whether that may be broken off."""

    def __init__(self) -> None:
        self.line = _Line()


class _Line:
    """What others may touch of a thread, under its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.stopper: Stopper | None = None
        self.shields = 0
        self.fenceless = 0

    def hang_up(self, stopper: Stopper) -> None:
        with self.lock:
            if self.stopper is stopper and not self.shields:
                for one in list(self.sockets):
                    _shut(one)


_here = _Thread()


class Stopper:
    """The stop of one run. `fence` asks whether the run still holds its step, see `fence()` below.

    `signs` counts what the run did: somebody who looks now and then sees by it that nothing moves.
    """

    def __init__(self, fence: Callable[[], None] | None = None) -> None:
        self.reason: DistworkerError | None = None
        self.signs = 0
        self._fence = fence
        self._said = threading.Event()
        self._lock = threading.Lock()
        self._lines: list[_Line] = []

    def stop(self, reason: DistworkerError) -> None:
        """Make every `check` raise `reason` from now on and end every wait; the first reason stays."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            lines = list(self._lines)
        self._said.set()
        for line in lines:
            line.hang_up(self)

    def check(self) -> None:
        """Raises the reason once there is one."""
        self.signs += 1
        if self.reason is not None:
            raise self.reason

    def fence(self) -> None:
        """See `fence()` below."""
        self.check()
        if self._fence is not None:
            self._fence()

    def sleep(self, seconds: float) -> None:
        """Pause; raises the reason as soon as there is one."""
        self._said.wait(seconds)
        self.check()

    @contextlib.contextmanager
    def bound(self) -> Iterator[None]:
        """The calling thread works for this run until the block ends; several threads may."""
        line = _here.line
        with line.lock:
            before, line.stopper = line.stopper, self
        with self._lock:
            self._lines.append(line)
        try:
            yield
        finally:
            with self._lock:
                self._lines.remove(line)
            with line.lock:
                line.stopper = before


def check() -> None:
    """Raises the reason if the run of this thread must stop, unless it is shielded."""
    stopper = _stopper()
    if stopper is not None:
        stopper.check()


def fence() -> None:
    """Asks the ledger now whether the run of this thread still holds its step; call it right before what
    others would see. An ordinary shield does not hide the answer.

    Raises:
        Lost, Cancelled: it does not. StateUnavailable: nobody knows.
    """
    line = _here.line
    if line.stopper is not None and not line.fenceless:
        line.stopper.fence()


def sleep(seconds: float) -> None:
    """Pause; ends with the reason if the run of this thread must stop."""
    stopper = _stopper()
    if stopper is None:
        time.sleep(seconds)
    else:
        stopper.sleep(seconds)


def attend(opened: socket.socket) -> None:
    """Remember a socket that this thread opened, and hang it up when its run is stopped."""
    line = _here.line
    with line.lock:
        line.sockets.add(opened)
        stopper = None if line.shields else line.stopper
    if stopper is not None and stopper.reason is not None:
        _shut(opened)


@contextlib.contextmanager
def shielded(*, fenced: bool = True) -> Iterator[None]:
    """What this thread does in the block is not broken off. Not `fenced`: nor refused, because it puts right
    what was done too late."""
    line = _here.line
    with line.lock:
        line.shields += 1
        line.fenceless += not fenced
    try:
        yield
    finally:
        with line.lock:
            line.shields -= 1
            line.fenceless -= not fenced


def _stopper() -> Stopper | None:
    line = _here.line
    return None if line.shields else line.stopper


def _shut(one: socket.socket) -> None:
    # Not an SSLSocket's own shutdown: it takes the TLS layer away from the thread that reads through it.
    with contextlib.suppress(OSError, ValueError):
        socket.socket.shutdown(one, socket.SHUT_RDWR)
