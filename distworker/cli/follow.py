"""Watches one job until it is over, and turns Ctrl-C into words.

The job lives in the ledger, not here: leaving early, a closed terminal or a Redis that is away for a moment
changes nothing for it. Reads only; all it needs is three calls of the state port, so that local mode and the
fleet look the same.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from distworker.cli import report
from distworker.errors import JobUnknown, StateUnavailable
from distworker.state.base import FAILED, JobView, WorkerView

if TYPE_CHECKING:
    from distworker.cli.render import Display

T = TypeVar("T")

#: Seconds between two looks at the job; a worker reports every 4 s, so faster shows nothing new. The first
#: looks are closer together: most small jobs are over within half a second.
POLL: Final = 0.5
_FIRST: Final = 0.2  #: part of it
#: Seconds Redis may be away before we stop watching: as long as workers tell it how their runs ended.
PATIENCE: Final = 120.0
#: Looks, a second apart, for a job that Redis lost: a worker rings for the sweep that opens it again when
#: nobody did for fifteen seconds.
LOST_LOOKS: Final = 45
#: Seconds between two looks at whether any worker is alive.
WORKERS_EVERY: Final = 10.0


class Watched(Protocol):
    """The part of `service.jobs.Jobs` that watching needs."""

    def view(self, job: str) -> JobView: ...

    def outcomes(self, job: str, start: int = 0) -> Iterator[Mapping[str, Any]]: ...

    def workers(self) -> Sequence[WorkerView]: ...


def follow(watched: Watched, job: str, display: Display, poll: float = POLL) -> int:
    """Show `job` until it is over; returns the exit code.

    Raises JobUnknown when there is no such job, StateUnavailable when the ledger stays away.
    """
    reader = _Reader(watched, job, display)
    with display:
        view = reader.look()
        display.begin(view)
        wait = poll * _FIRST
        while True:
            reader.new_outcomes()
            display.tick(view)
            if report.is_over(view):
                break
            reader.mind_the_pause(view)
            reader.mind_the_workers(view)
            time.sleep(wait)
            wait = min(poll, wait * 1.5)
            view = reader.look_again()
        # Outcomes are written before the job closes, but ours were read before we saw it closed.
        reader.new_outcomes()
        code = report.exit_code(view, reader.failures)
        display.end(view, reader.failures, code)
    return code


class _Reader:
    """What was read so far."""

    def __init__(self, watched: Watched, job: str, display: Display) -> None:
        self._watched, self._job, self._display = watched, job, display
        self._seen = 0
        self._created: float | None = None
        self._asked_workers = time.monotonic()
        self._told = self._told_pause = False
        self.failures: list[Mapping[str, Any]] = []

    def look(self) -> JobView:
        view = self._patiently(lambda: self._watched.view(self._job))
        if self._created not in (None, view.created):  # opened again after a loss: its outcomes begin anew
            self._seen = 0
            self.failures.clear()
        self._created = view.created
        return view

    def look_again(self) -> JobView:
        """As `look`, for a job that was there: only Redis can have lost it, which is no wrong request. A
        fleet that lives finds it in the store soon."""
        for look in range(LOST_LOOKS):
            try:
                return self.look()
            except JobUnknown:
                if not look:
                    self._display.notice(f"Redis no longer knows job {self._job}; waiting for its recovery")
                time.sleep(1)
        raise StateUnavailable(
            f"Redis no longer knows job {self._job}: it was emptied, or came back without its data;"
            f" `distworker recover {self._job}` goes on with it, what has arrived does not move twice"
        )

    def new_outcomes(self) -> None:
        self._patiently(self._show_outcomes)

    def _show_outcomes(self) -> None:
        for outcome in self._watched.outcomes(self._job, self._seen):
            self._seen += 1
            self._display.image(outcome)
            if outcome.get("state") == FAILED:
                self.failures.append(outcome)

    def mind_the_pause(self, view: JobView) -> None:
        """Say it once when somebody holds the job."""
        if view.paused and not self._told_pause:
            self._display.notice(f"paused: an operator holds the job; distworker resume {view.id}")
        self._told_pause = view.paused

    def mind_the_workers(self, view: JobView) -> None:
        """Say it once when the last worker went away: the job waits, and nothing else would tell."""
        if view.running or time.monotonic() - self._asked_workers < WORKERS_EVERY:
            return
        self._asked_workers = time.monotonic()
        alive = bool(self._patiently(self._watched.workers))
        if not alive and not self._told:
            self._display.notice(
                "no_worker: no worker is alive; the job waits for one (`celery -A tasks worker` starts one)"
            )
        self._told = not alive

    def _patiently(self, ask: Callable[[], T]) -> T:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return ask()
            except StateUnavailable as error:
                if time.monotonic() >= deadline:
                    raise StateUnavailable(
                        f"stopped watching: {error.message}; the job is not lost,"
                        f" `distworker status {self._job}` shows it once Redis is back"
                    ) from error
                time.sleep(1)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first Ctrl-C (or SIGTERM) raises KeyboardInterrupt, the second ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, at_once)
        signal.signal(signal.SIGTERM, at_once)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def at_once(number: int, frame: FrameType | None) -> None:
    """Leave now, whatever is still to be closed."""
    os._exit(report.INTERRUPTED)
