"""Runs fuzz targets: valid inputs, changed a little, many thousand times, until time or number is used up.

The same seed gives the same inputs. What breaks a target is made small before it is told. An execution that
does not come back counts as a failure too: a parser that loops is as good as down.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fuzz.spoil import smallest, spoiled
from tests.fuzz.targets import Target

#: Inputs between two looks at the clock.
ROUND = 500
#: Seconds a round may take before an input counts as hanging; a good one takes milliseconds.
HANG = 20.0


@dataclass(frozen=True)
class Outcome:
    """How often a target ran, and the smallest input that broke it with what it raised."""

    target: str
    executions: int
    breaking: bytes | None = None
    error: Exception | None = None


class Hung(Exception):
    """One execution took longer than any honest one."""


def run(target: Target, go_on: Callable[[int], bool], seed: int = 0) -> Outcome:
    """The corpus as it is, then rounds of changed inputs while `go_on(executions so far)`; stops at the
    first failure.
    """
    executions = 0
    for data in _inputs(target, go_on, seed):
        executions += 1
        error = _error(target, data)
        if error is not None:
            found = _smallest(target, data, error)
            return Outcome(target.name, executions, found, error if found == data else _error(target, found))
    return Outcome(target.name, executions)


def _inputs(target: Target, go_on: Callable[[int], bool], seed: int) -> Iterator[bytes]:
    luck = random.Random(f"{target.name} {seed}")
    made = 0
    with _watched():
        yield from target.corpus
    while go_on(made):
        with _watched():
            for _ in range(ROUND):
                yield spoiled(luck, target.corpus, target.hints)
        made += ROUND


def _error(target: Target, data: bytes) -> Exception | None:
    try:
        target.feed(data)
    except Exception as error:
        return error
    return None


def _smallest(target: Target, data: bytes, first: Exception) -> bytes:
    """Made small while it breaks in the same way; what hangs is shown as it is."""
    if isinstance(first, Hung):
        return data
    return smallest(data, lambda less: type(_error(target, less)) is type(first))


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Interrupts what hangs, unless somebody else watches already (pytest's own timeout does)."""
    if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return

    def over(number: int, frame: object) -> None:
        raise Hung(f"no answer within {HANG:.0f} s")

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, HANG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def until(seconds: float, clock: Callable[[], float] = time.monotonic) -> Callable[[int], bool]:
    """Goes on for so many seconds."""
    end = clock() + seconds
    return lambda executions: clock() < end


def times(number: int) -> Callable[[int], bool]:
    """Goes on for so many executions."""
    return lambda executions: executions < number
