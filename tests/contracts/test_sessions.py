"""Upload sessions that outlive their run, in memory and in a real Redis, which sees nothing secret."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from distworker.state.connection import Connection
from distworker.state.sessions import KEEP, KeptSession, MemorySessions, RedisSessions
from distworker.steps.base import Sessions

SECRET = "the-secret-of-the-whole-fleet"
STEP = "u:sha256:ab@dst.example"


def session(token: str, step: str = STEP, age: float = 0.0) -> KeptSession:
    """A session of that claim, opened so many seconds ago."""
    return KeptSession(
        step=step,
        token=token,
        host="dst.example",
        credential="robot",
        repository="team/app",
        location=f"https://dst.example/v2/team/app/blobs/uploads/{token}?_state=CAPABILITY",
        min_chunk=5,
        started=time.time() - age,
    )


@pytest.fixture
def redis(redis_url: str) -> Iterator[Connection]:
    """An empty database."""
    connection = Connection(redis_url)
    yield connection
    connection.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.servers)])
def sessions(request: pytest.FixtureRequest) -> Sessions:
    """Each of the two, empty."""
    if request.param == "memory":
        return MemorySessions()
    return RedisSessions(request.getfixturevalue("redis"), SECRET)


def test_a_session_is_found_by_its_step_until_its_claim_drops_it(sessions: Sessions) -> None:
    """Whole, the newest first; a claim has one at a time, and drops only its own."""
    first, second = session("one", age=10), session("two")
    sessions.keep(first)
    sessions.keep(second)
    sessions.keep(session("three", step="u:other"))
    assert list(sessions.of(STEP)) == [second, first]
    moved = replace(second, location="https://dst.example/elsewhere")
    sessions.keep(moved)
    sessions.drop(STEP, "one")
    sessions.drop(STEP, "nobody")
    assert list(sessions.of(STEP)) == [moved]
    sessions.drop(STEP, "two")
    assert list(sessions.of(STEP)) == []
    assert [one.token for one in sessions.oldest(9)] == ["three"]


def test_the_oldest_come_first_and_not_more_than_asked_for(sessions: Sessions) -> None:
    """What a sweep looks at."""
    for number in (3, 1, 2):
        sessions.keep(session(f"t{number}", step=f"u:{number}", age=100 * number))
    assert [one.step for one in sessions.oldest(2)] == ["u:3", "u:2"]
    sessions.drop("u:3", "t3")
    assert [one.step for one in sessions.oldest(5)] == ["u:2", "u:1"]


@pytest.mark.servers
def test_redis_sees_no_location_and_keeps_nothing_for_ever(redis: Connection) -> None:
    """No capability, host or repository in a dump; everything has an end or leaves with the next one kept."""
    sessions = RedisSessions(redis, SECRET)
    sessions.keep(session("old", step="u:old", age=KEEP + 100))
    sessions.keep(session("one"))
    keys = [str(key) for key in redis.client.scan_iter("*")]
    dump = " ".join(str(redis.client.hgetall(key)) for key in keys if key.startswith("dw:us:"))
    assert dump
    assert [word for word in ("CAPABILITY", "dst.example/v2", "team/app", "robot") if word in dump] == []
    assert all(0 < redis.client.ttl(key) <= KEEP for key in keys if key.startswith("dw:us:"))
    assert [one.step for one in sessions.oldest(9)] == [STEP]
    sessions.drop(STEP, "one")
    assert not redis.client.exists(f"dw:us:{STEP}", "dw:sessions")


@pytest.mark.servers
def test_another_fleet_and_a_changed_value_see_nothing(redis: Connection) -> None:
    """A value that was moved to another step is none either."""
    ours = RedisSessions(redis, SECRET)
    ours.keep(session("one"))
    assert list(RedisSessions(redis, "another-secret-altogether").of(STEP)) == []
    text = redis.client.hget(f"dw:us:{STEP}", "one")
    assert text is not None
    redis.client.hset("dw:us:u:other", "one", str(text))
    assert list(ours.of("u:other")) == []
    assert len(ours.of(STEP)) == 1


def test_a_redis_that_is_away_keeps_nothing_and_raises_nothing() -> None:
    """The upload goes on by itself."""
    connection = Connection("redis://127.0.0.1:1/0")
    sessions = RedisSessions(connection, SECRET)
    sessions.keep(session("one"))
    assert list(sessions.of(STEP)) == []
    sessions.drop(STEP, "one")
    assert list(sessions.oldest(5)) == []
    connection.close()
