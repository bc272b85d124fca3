"""No run lasts for ever, and none that moves is stopped."""

from __future__ import annotations

import pytest

from distworker.errors import RequestTimeout
from distworker.service.watch import (
    ENDING_SECONDS,
    IDLE_SECONDS,
    RUN_SECONDS,
    RUN_SECONDS_PER_BYTE,
    RunWatch,
)

BEAT = 4.0


def watch(size: int = 0) -> RunWatch:
    return RunWatch("d:default/sha256:00", "token", size, lambda run: None)


def test_a_run_without_a_sign_is_stopped_as_a_timeout() -> None:
    """Whatever it waits for: something without a bound of its own would hold its slot for ever."""
    run = watch()
    assert not run.overdue(0)
    assert not run.overdue(IDLE_SECONDS)
    run.check()
    assert not run.overdue(IDLE_SECONDS + BEAT)
    assert not run.overdue(2 * IDLE_SECONDS)
    run.check()
    run.overdue(2 * IDLE_SECONDS + 2 * BEAT)
    run.overdue(3 * IDLE_SECONDS + 3 * BEAT)
    with pytest.raises(RequestTimeout, match="nothing moved for 15 minutes"):
        run.check()


def test_a_run_that_goes_on_and_on_is_stopped_in_the_end() -> None:
    """An endless list keeps every pace and is never done; a large blob has time for its bytes."""
    small, large = watch(), watch(int(2 * RUN_SECONDS / RUN_SECONDS_PER_BYTE))
    now = 0.0
    while now < 1.5 * RUN_SECONDS:
        for run in (small, large):
            run.moved(int(now))
            run.overdue(now)
        now += IDLE_SECONDS / 2
    with pytest.raises(RequestTimeout, match="not done after 24 hours"):
        small.check()
    large.check()


def test_a_run_that_cannot_be_stopped_loses_its_lease() -> None:
    """Its thread hangs in a disk, say: somebody else gets the step."""
    run = watch()
    run.overdue(0)
    run.stop(RequestTimeout("nothing moved"))
    assert not run.overdue(BEAT)
    assert not run.overdue(ENDING_SECONDS)
    assert run.overdue(ENDING_SECONDS + 2 * BEAT)


def test_progress_is_what_outlives_the_run_beyond_what_it_found() -> None:
    """Only that makes the next run shorter."""
    fresh, resumed, stuck, again = watch(), watch(), watch(), watch()
    for run, marks in ((fresh, (0, 8)), (resumed, (8, 16)), (stuck, (8, 8)), (again, (8, 0, 4))):
        for mark in marks:
            run.moved(mark + 2)
            run.kept(mark)
    assert (fresh.progressed, resumed.progressed) == (True, True)
    assert (stuck.progressed, again.progressed, watch().progressed) == (False, False, False)
