"""One worker's part in upkeep: a turn, a bite, a record; what fails is told and tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from distworker.errors import Draining, InvalidRequest, Lost, StateUnavailable, StoreUnavailable
from distworker.service import upkeep
from distworker.service.upkeep import AGAIN, Bite, Sweep, Upkeep


class FakeTurns:
    """Always gives the turn unless `taken`; remembers how it ended."""

    def __init__(self, taken: bool = False) -> None:
        self.taken = taken
        self.held = True
        self.ended: list[tuple[str, dict[str, int], float, bool, str]] = []
        self.due: list[str] = []

    def take(self, name: str, owner: str, every: float) -> str | None:
        return None if self.taken else f"token of {owner}"

    def keep(self, name: str, token: str) -> bool:
        return self.held

    def end(
        self, name: str, token: str, swept: Mapping[str, int], again: float, *, over: bool, error: str = ""
    ) -> bool:
        assert token == "token of w1"
        self.ended.append((name, dict(swept), again, over, error))
        return self.held

    def ring(self, name: str, slack: float, every: float) -> bool:
        return name in self.due


def worker(sweep: Sweep, turns: FakeTurns, every: float = 600.0, rung: list[str] | None = None) -> Upkeep:
    ring = (rung if rung is not None else []).append
    return Upkeep(turns, {"gc": sweep}, {"gc": every, "scrub": 0.0}, "w1", ring)  # type: ignore[arg-type]


def test_a_sweep_ends_with_its_record_and_a_sentence() -> None:
    """It is due again after its interval."""
    turns = FakeTurns()
    said = worker(lambda bite: ({"blobs": 2, "bytes": 0}, False), turns).run("gc")
    assert said == "gc: 2 blobs"
    assert turns.ended == [("gc", {"blobs": 2, "bytes": 0}, 600.0, True, "")]


def test_a_bite_that_left_work_is_followed_by_the_next_message() -> None:
    """At once, by whoever is free."""
    turns, rung = FakeTurns(), list[str]()
    said = worker(lambda bite: ({"blobs": 2}, True), turns, rung=rung).run("gc")
    assert said == "gc: 2 blobs, more to do"
    assert turns.ended == [("gc", {"blobs": 2}, 0, False, "")]
    assert rung == ["gc"]


def test_a_lost_turn_is_not_rung_on() -> None:
    """The new holder does that."""
    turns, rung = FakeTurns(), list[str]()
    turns.held = False
    worker(lambda bite: ({}, True), turns, rung=rung).run("gc")
    assert rung == []


def test_a_broker_that_is_away_does_not_fail_what_was_swept() -> None:
    """A later ring goes on."""
    turns = FakeTurns()

    def away(name: str) -> None:
        raise StateUnavailable("the broker is away")

    one = Upkeep(turns, {"gc": lambda bite: ({}, True)}, {"gc": 60.0}, "w1", away)  # type: ignore[arg-type]
    assert one.run("gc") == "gc: nothing, more to do"


def test_who_does_not_get_the_turn_sweeps_nothing() -> None:
    """A doubled message."""

    def sweep(bite: Bite) -> Any:
        raise AssertionError

    turns = FakeTurns(taken=True)
    assert worker(sweep, turns).run("gc").startswith("superseded: ")
    assert turns.ended == []


@pytest.mark.parametrize(
    ("error", "text"), [(StoreUnavailable("away"), "store_unavailable: away"), (KeyError("x"), "KeyError")]
)
def test_a_failure_is_recorded_and_tried_again_soon(error: Exception, text: str) -> None:
    """And raised for the task to show."""
    turns = FakeTurns()

    def sweep(bite: Bite) -> Any:
        raise error

    with pytest.raises(type(error)):
        worker(sweep, turns).run("gc")
    assert turns.ended == [("gc", {}, AGAIN, False, text)]


def test_a_stopping_worker_gives_the_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next sign of life; somebody else goes on."""
    turns = FakeTurns()

    def sweep(bite: Bite) -> Any:
        one.stop()
        with pytest.raises(Draining):
            bite.alive()
        bite.alive()

    one = worker(sweep, turns)
    assert one.run("gc") == "gc stops: this worker is stopping"
    assert turns.ended == [("gc", {}, 0, False, "")]


def test_a_sweep_that_lost_its_turn_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was frozen must not go on beside its successor."""
    monkeypatch.setattr(upkeep, "SIGN", 0.0)
    turns = FakeTurns()
    turns.held = False

    def sweep(bite: Bite) -> Any:
        with pytest.raises(Lost):
            bite.alive()
        bite.alive()

    assert "another worker" in worker(sweep, turns).run("gc")


def test_an_unknown_sweep_is_refused_with_the_names_there_are() -> None:
    """A message of another release, or of a person."""
    with pytest.raises(InvalidRequest, match="no sweep 'dust'; there are gc"):
        worker(lambda bite: ({}, False), FakeTurns()).run("dust")


def test_a_sweep_that_is_switched_off_does_not_run() -> None:
    """Even when somebody sends its message."""
    turns = FakeTurns()
    assert worker(lambda bite: ({}, False), turns, every=0.0).run("gc") == "gc is switched off"
    assert turns.ended == []


def test_a_worker_rings_for_what_nobody_rang_for() -> None:
    """Not for what is switched off."""
    turns, rung = FakeTurns(), list[str]()
    turns.due = ["gc", "scrub"]
    worker(lambda bite: ({}, False), turns, rung=rung).look()
    assert rung == ["gc"]
