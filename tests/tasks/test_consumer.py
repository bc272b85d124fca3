"""How often a worker comes back to a broker that refuses it, and that it keeps to itself."""

from __future__ import annotations

from typing import Any

import pytest
from celery.worker import state
from celery.worker.consumer import Consumer

from tasks.consumer import CALM, PAUSES, PatientConsumer


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def waited(consumer: PatientConsumer, time: Time) -> float:
    """Seconds of the pause after one more error."""
    before = time.now
    consumer._wait(time.clock, time.sleep)
    return round(time.now - before, 3)


@pytest.fixture
def consumer() -> PatientConsumer:
    """One without a worker around it."""
    return PatientConsumer.__new__(PatientConsumer)


def test_a_lost_connection_is_made_again_at_once_and_a_refused_one_ever_later(
    consumer: PatientConsumer,
) -> None:
    """A dropped line must cost nothing; a Redis that is full for an hour must not fill the log."""
    time = Time()
    assert [waited(consumer, time) for _ in range(8)] == [*PAUSES, PAUSES[-1], PAUSES[-1]]
    time.now += CALM
    assert waited(consumer, time) == 0


def test_a_worker_that_should_stop_does_not_wait(
    consumer: PatientConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 0 is a stop as well."""
    time = Time()
    for _ in PAUSES:
        waited(consumer, time)
    monkeypatch.setattr(state, "should_stop", 0)
    assert waited(consumer, time) == 0


def test_workers_do_not_talk_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Celery's command says; its other options stay."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(Consumer, "__init__", lambda _, *__, **fields: given.update(fields))
    PatientConsumer(print, worker_options={"without_gossip": False, "queues": "a"}, pool=None)
    options = {"without_gossip": True, "without_mingle": True, "queues": "a"}
    assert given == {"worker_options": options, "pool": None}
