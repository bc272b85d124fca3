"""How often and how long a broken reading is gone on with, without a socket."""

from __future__ import annotations

import pytest

from distworker.errors import RequestTimeout, TransferError, Unavailable
from distworker.limits import SLEEP_MAX
from distworker.registry.http import BACKOFF
from distworker.registry.resume import Budget
from distworker.registry.waits import (
    BLOB_SECONDS_BASE,
    FREE_RECONNECT_BYTES,
    FREE_RECONNECT_SECONDS,
    PACE_BYTES,
    RECONNECTS_MAX,
)

BROKEN, SLOW = Unavailable("it broke"), RequestTimeout("it is slow")
SIZE = 1 << 30


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def reconnects(
    budget: Budget, error: TransferError, progress: int, clock: Clock, seconds: float = 0.0
) -> int:
    """How many reconnects there are when each connection brings `progress` bytes in `seconds`; at most 60."""
    for count in range(60):
        budget.progress(progress)
        clock.now += seconds
        try:
            assert budget.pause(error) >= 0.0
        except TransferError as raised:
            assert raised is error
            return count
    return 60


@pytest.mark.parametrize(
    ("error", "progress", "seconds", "allowed"),
    [
        (BROKEN, 0, 0.0, BACKOFF.tries - 1),
        (BROKEN, FREE_RECONNECT_BYTES - 1, 0.0, BACKOFF.tries - 1),
        (BROKEN, FREE_RECONNECT_BYTES, 0.0, RECONNECTS_MAX),
        (BROKEN, 1, FREE_RECONNECT_SECONDS, RECONNECTS_MAX),
        (BROKEN, 1, FREE_RECONNECT_SECONDS - 1, BACKOFF.tries - 1),
        (BROKEN, 0, FREE_RECONNECT_SECONDS, BACKOFF.tries - 1),
        (SLOW, 0, 60.0, 0),
        (SLOW, 1, 60.0, BACKOFF.tries - 1),
        (SLOW, PACE_BYTES - 1, 60.0, BACKOFF.tries - 1),
        (SLOW, PACE_BYTES, 60.0, RECONNECTS_MAX),
    ],
)
def test_progress_buys_reconnects(error: TransferError, progress: int, seconds: float, allowed: int) -> None:
    """Those after real progress are free up to the cap; what a slow server brings must be worth its time."""
    clock = Clock()
    assert reconnects(Budget(SIZE, clock), error, progress, clock, seconds) == allowed


def test_progress_clears_what_was_spent() -> None:
    """A bad moment long ago does not count against the connection of now."""
    clock = Clock()
    budget = Budget(SIZE, clock)
    for _ in range(3):
        assert reconnects(budget, BROKEN, 0, clock) in {BACKOFF.tries - 1, BACKOFF.tries - 2}
        budget.progress(FREE_RECONNECT_BYTES)
        budget.pause(BROKEN)


def test_the_time_of_a_blob_grows_with_its_size() -> None:
    """An hour, and what its bytes take at the least pace; then it is not reconnected to."""
    for size, seconds in ((0, BLOB_SECONDS_BASE), (50 << 10, BLOB_SECONDS_BASE + 1)):
        clock = Clock()
        budget = Budget(size, clock)
        clock.now += seconds - 0.5
        budget.progress(FREE_RECONNECT_BYTES)
        budget.pause(BROKEN)
        clock.now += 0.5
        budget.progress(FREE_RECONNECT_BYTES)
        with pytest.raises(Unavailable):
            budget.pause(BROKEN)


def test_a_wait_that_was_asked_for_is_kept_or_given_back() -> None:
    """Up to half a minute in place; more is for those who can wait without holding anything."""
    budget = Budget(SIZE, Clock())
    assert budget.pause(Unavailable("later", delay=SLEEP_MAX)) == SLEEP_MAX
    with pytest.raises(Unavailable):
        budget.pause(Unavailable("much later", delay=SLEEP_MAX + 1))


def test_pauses_grow_with_what_was_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second reconnect in a row may wait longer than the first; after progress it begins anew."""
    asked: list[int] = []
    monkeypatch.setattr(type(BACKOFF), "delay", lambda self, attempt: float(asked.append(attempt) or 0))
    budget = Budget(SIZE, Clock())
    assert budget.pause(BROKEN) == budget.pause(BROKEN) == 0.0
    budget.progress(FREE_RECONNECT_BYTES)
    assert budget.pause(BROKEN) == 0.0
    assert asked == [1, 2, 1]
