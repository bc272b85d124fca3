"""Turns at upkeep in a real Valkey: one at a time, once when due, whoever dies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from distworker.state.connection import Connection
from distworker.state.turns import LEASE, RING_AGAIN, Turns

pytestmark = pytest.mark.servers

EVERY = 600.0


class Clock:
    """Moved by the test."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns(redis_url: str, clock: Clock) -> Iterator[Turns]:
    connection = Connection(redis_url, clock=clock)
    yield Turns(connection)
    connection.close()


def take(turns: Turns, name: str = "gc", owner: str = "w1") -> str:
    token = turns.take(name, owner, EVERY)
    assert token
    return token


def test_of_many_who_come_one_gets_the_turn(turns: Turns) -> None:
    """However many schedulers ring."""
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda n: turns.take("gc", f"w{n}", EVERY), range(40)))
    assert len([token for token in tokens if token]) == 1


def test_a_sweep_is_not_due_again_before_its_time(turns: Turns, clock: Clock) -> None:
    """And is, afterwards."""
    assert turns.end("gc", take(turns), {"blobs": 2}, EVERY, over=True)
    clock.now += EVERY - 1
    assert turns.take("gc", "w2", EVERY) is None
    clock.now += 2
    assert turns.take("gc", "w2", EVERY)


def test_what_was_swept_is_recorded_with_the_time(turns: Turns, clock: Clock) -> None:
    """`status` shows it; while it runs it says who is at it."""
    token = take(turns)
    assert turns.views(["gc"])[0].owner == "w1"
    clock.now += 3
    assert turns.end("gc", token, {"blobs": 2, "bytes": 70}, EVERY, over=True)
    view = turns.views(["gc"])[0]
    assert (view.owner, view.ended, view.took) == ("", clock.now, 3.0)
    assert (dict(view.swept), view.error, view.due) == ({"blobs": 2, "bytes": 70}, "", clock.now + EVERY)


def test_bites_of_a_round_add_up(turns: Turns, clock: Clock) -> None:
    """A round of many bites is told as one; the next one begins at nothing."""
    began = clock.now
    assert turns.end("gc", take(turns), {"blobs": 2}, 0, over=False)
    view = turns.views(["gc"])[0]
    assert (dict(view.so_far), view.ended) == ({"blobs": 2}, 0.0)
    clock.now += 50
    assert turns.end("gc", take(turns, owner="w2"), {"blobs": 3}, EVERY, over=True)
    view = turns.views(["gc"])[0]
    assert (dict(view.swept), view.took, dict(view.so_far)) == ({"blobs": 5}, clock.now - began, {})
    clock.now += EVERY
    assert turns.end("gc", take(turns), {"blobs": 1}, EVERY, over=True)
    assert dict(turns.views(["gc"])[0].swept) == {"blobs": 1}


def test_a_dead_holder_is_followed_when_its_turn_runs_out(turns: Turns, clock: Clock) -> None:
    """And the dead one, should it wake, records nothing and frees nothing."""
    dead = take(turns)
    clock.now += LEASE - 1
    assert turns.take("gc", "w2", EVERY) is None
    assert turns.keep("gc", dead)
    clock.now += LEASE + 1
    living = take(turns, owner="w2")
    assert not turns.keep("gc", dead)
    assert not turns.end("gc", dead, {"blobs": 9}, EVERY, over=True)
    assert turns.views(["gc"])[0].owner == "w2"
    assert turns.end("gc", living, {}, EVERY, over=True)
    assert dict(turns.views(["gc"])[0].swept) == {}


def test_a_failed_turn_says_why_until_one_goes_well(turns: Turns, clock: Clock) -> None:
    """The last whole round stays on record meanwhile."""
    assert turns.end("gc", take(turns), {"blobs": 2}, EVERY, over=True)
    clock.now += EVERY
    assert turns.end("gc", take(turns), {}, 60, over=False, error="store_unavailable: away")
    view = turns.views(["gc"])[0]
    assert (view.error, dict(view.swept)) == ("store_unavailable: away", {"blobs": 2})
    clock.now += 60
    assert turns.end("gc", take(turns), {}, EVERY, over=True)
    assert turns.views(["gc"])[0].error == ""


def test_one_of_all_who_look_rings(turns: Turns, clock: Clock) -> None:
    """Again only when nobody took it for a while, and never for what is not due or in work."""
    assert [turns.ring("gc", 0.0, EVERY) for _ in range(3)] == [True, False, False]
    clock.now += RING_AGAIN
    assert turns.ring("gc", 0.0, EVERY)
    token = take(turns)
    clock.now += RING_AGAIN
    assert not turns.ring("gc", 0.0, EVERY)
    assert turns.end("gc", token, {}, EVERY, over=True)
    clock.now += EVERY + 5
    assert not turns.ring("gc", 15.0, EVERY), "a worker leaves the scheduler its slack"
    assert turns.ring("gc", 0.0, EVERY)


@pytest.mark.parametrize("back", [60.0, 86_400.0 * 30])
def test_a_clock_put_back_does_not_stop_upkeep(turns: Turns, clock: Clock, back: float) -> None:
    """A date further off than the interval cannot be meant."""
    assert turns.end("gc", take(turns), {}, EVERY, over=True)
    clock.now -= back
    assert turns.ring("gc", 0.0, EVERY)
    assert turns.take("gc", "w2", EVERY)


def test_a_turn_taken_before_the_clock_went_back_does_not_hold_for_ever(turns: Turns, clock: Clock) -> None:
    """Its end lies days ahead, and its holder may be dead."""
    take(turns)
    clock.now -= 86_400.0 * 2
    assert turns.take("gc", "w2", EVERY)
