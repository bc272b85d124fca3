"""What happens between the start of a process and its first look at the ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from distworker.errors import StateRefused, StateUnavailable
from distworker.service.readiness import NOTHING_KEPT, await_ledger


def answering(*answers: Mapping[str, Any] | Exception) -> Callable[[], Mapping[str, Any]]:
    """A check with these answers, one after the other."""
    left = list(answers)

    def check() -> Mapping[str, Any]:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return check


def test_a_redis_that_is_away_is_waited_for_and_told_seldom(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty failures are five lines, and one when it is there."""
    slept: list[float] = []
    away = [StateUnavailable("Redis at h cannot be reached")] * 20
    facts = await_ledger(answering(*away, {"persistence": "aof"}), slept.append)
    assert facts == {"persistence": "aof"}
    assert len(slept) == 20
    assert max(slept) <= 5
    said = [record.message for record in caplog.records]
    assert len(said) == 6, said
    assert all("waiting for Redis" in line for line in said[:5])
    assert "there after 20 failures" in said[5]


def test_a_redis_that_must_not_be_used_ends_the_wait() -> None:
    """Also when it was away before."""
    with pytest.raises(StateRefused):
        await_ledger(answering(StateUnavailable("away"), StateRefused("evicts keys")), lambda _: None)


def test_a_redis_that_keeps_nothing_is_told_loudly(caplog: pytest.LogCaptureFixture) -> None:
    """The operator may want that; nobody should have it by accident."""
    await_ledger(answering({"persistence": "none"}))
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.WARNING, NOTHING_KEPT)
    ]
    caplog.clear()
    await_ledger(answering({"persistence": "aof"}))
    assert not caplog.records
