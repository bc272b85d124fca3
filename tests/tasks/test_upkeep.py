"""The message of a sweep, and the scheduler that rings for sweeps."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.result import EagerResult

from distworker import names
from distworker.errors import StateUnavailable, StoreUnavailable
from tasks import app, scheduler
from tasks.scheduler import LOOK, TurnScheduler
from tests.tasks.conftest import ScriptedUpkeep

Receive = Callable[..., EagerResult]


def test_a_sweep_s_message_runs_that_sweep(receive: Receive, sweeps: ScriptedUpkeep) -> None:
    """Its result is the sentence that operators read."""
    assert receive(names.SWEEP, v=1, sweep="leftovers").result == "leftovers: nothing"
    assert sweeps.asked == ["leftovers"]


@pytest.mark.parametrize(
    "message",
    [{}, {"v": 1}, {"v": 1, "sweep": 7}, {"v": 99, "sweep": "gc"}, {"v": 1, "sweep": "gc", "more": 1}],
)
def test_a_message_that_is_none_is_refused(
    receive: Receive, sweeps: ScriptedUpkeep, message: dict[str, Any]
) -> None:
    """In one line, and nothing is swept."""
    result = receive(names.SWEEP, **message)
    assert result.state == "FAILURE"
    assert str(result.result).startswith("invalid_request: ")
    assert sweeps.asked == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreUnavailable("the bucket is gone"), "the bucket is gone"),
        (KeyError("secret"), "internal: KeyError"),
    ],
)
def test_a_sweep_that_fails_is_a_failure_with_one_sentence(
    receive: Receive, sweeps: ScriptedUpkeep, error: Exception, said: str
) -> None:
    """What was unexpected is in the worker's log only."""

    def fail(name: str) -> str:
        raise error

    sweeps.answer = fail
    result = receive(names.SWEEP, v=1, sweep="leftovers")
    assert result.state == "FAILURE"
    assert said in str(result.result)
    assert "secret" not in str(result.result)


class Bells:
    """A bell with one sweep that is due as often as `due` says."""

    def __init__(self, due: list[Any]) -> None:
        self.every = {"leftovers": 600.0, "gc": 0.0}
        self.turns = SimpleNamespace(ring=self.ring)
        self.asked: list[tuple[str, float, float]] = []
        self.due = due

    def ring(self, name: str, slack: float, every: float) -> bool:
        self.asked.append((name, slack, every))
        answer = self.due.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    def close(self) -> None:
        self.every = {}


def test_the_scheduler_rings_for_what_is_due_and_for_nothing_that_is_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It leaves no slack: it is the first who should ring."""
    bells, rung = Bells([True, False]), list[str]()
    monkeypatch.setattr(scheduler, "build_bell", lambda config: bells)
    monkeypatch.setattr(scheduler, "dispatch", SimpleNamespace(ring=rung.append))
    beat = TurnScheduler(app, lazy=True)
    beat.setup_schedule()
    assert [beat.tick(), beat.tick()] == [LOOK, LOOK]
    assert rung == ["leftovers"]
    assert bells.asked == [("leftovers", 0.0, 600.0)] * 2
    beat.close()


def test_the_scheduler_outlives_a_redis_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once at first, and rings when Redis is back."""
    away = StateUnavailable("Redis is away")
    bells, rung = Bells([away, away, True]), list[str]()
    monkeypatch.setattr(scheduler, "build_bell", lambda config: bells)
    monkeypatch.setattr(scheduler, "dispatch", SimpleNamespace(ring=rung.append))
    beat = TurnScheduler(app, lazy=True)
    beat.setup_schedule()
    for _ in range(3):
        beat.tick()
    assert rung == ["leftovers"]
    assert "Redis is away" in caplog.text
