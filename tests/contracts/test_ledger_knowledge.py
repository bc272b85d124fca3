"""What workers tell each other besides work: hints, lanes, presence."""

from __future__ import annotations

import pytest

from distworker.state.ledger import RedisLedger
from tests.contracts.ledger_world import OWNER, World, upload


def deliver(world: World, digest: str, *repositories: str) -> None:
    """A job whose uploads leave these hints."""
    job = f"{digest}-{len(repositories)}"
    world.planned({f"{job}-1": [upload(digest, job, stored=True)]}, job)
    world.finish(f"u:{digest}@dst", hints=tuple(("dst", "c", digest, name) for name in repositories))


def test_hints_name_repositories_newest_first_per_credential(world: World) -> None:
    """Candidates for mounts; another credential does not see them."""
    deliver(world, "a", "one", "two", "three")
    assert world.ledger.hints("dst", "c", ["a", "b"]) == {"a": ["three", "two", "one"]}
    assert world.ledger.hints("dst", "other", ["a"]) == {}
    assert world.ledger.hints("dst", "c", []) == {}


def test_a_repository_named_again_becomes_the_newest(world: World) -> None:
    """Each is listed once."""
    deliver(world, "a", "one", "two", "one")
    assert world.ledger.hints("dst", "c", ["a"]) == {"a": ["one", "two"]}


def test_few_hints_are_kept(world: World) -> None:
    """A base layer is in thousands of repositories; eight will do."""
    deliver(world, "a", *[f"r{n}" for n in range(20)])
    assert world.ledger.hints("dst", "c", ["a"])["a"] == [f"r{n}" for n in range(19, 11, -1)]


def test_hints_expire_in_memory(memory_world: World) -> None:
    """An old location is rarely worth a mount request."""
    deliver(memory_world, "a", "one")
    memory_world.advance(memory_world.rules.hint + 1)
    assert memory_world.ledger.hints("dst", "c", ["a"]) == {}


@pytest.mark.servers
def test_hints_expire_on_the_server(redis_world: World) -> None:
    """There it is a TTL."""
    deliver(redis_world, "a", "one")
    assert isinstance(redis_world.ledger, RedisLedger)
    redis = redis_world.ledger.redis
    assert 0 < redis.client.ttl(redis.key("hint", "dst|c|a")) <= redis_world.rules.hint


def test_images_get_numbers_in_a_lane_in_turn_and_keep_them(world: World) -> None:
    """The newest publish of a tag wins, whoever is slower."""
    ledger = world.ledger
    now = 1_700_000_000_000
    numbers = [ledger.lane_begin("dst/app:1", image) for image in ("A", "B", "A", "C")]
    assert numbers == [now, now + 1, now, now + 2]
    assert ledger.lane_begin("dst/app:2", "C") == now, "lanes are apart"


def test_lane_numbers_follow_the_clock_and_never_go_back_with_it(world: World) -> None:
    """After a total loss of the server a new number is above all old ones; a clock put back does nothing."""
    ledger = world.ledger
    first = ledger.lane_begin("lane", "A")
    world.advance(5)
    assert ledger.lane_begin("lane", "B") == first + 5000
    assert ledger.lane_begin("other", "B") == first + 5000
    world.advance(-3600)
    assert ledger.lane_begin("lane", "C") == first + 5001


def test_a_lane_is_busy_while_a_newer_number_is_out(world: World) -> None:
    """Its image may publish at any moment; older ones lose anyway."""
    ledger = world.ledger
    assert not ledger.lane_busy("lane")
    first, second = ledger.lane_begin("lane", "A"), ledger.lane_begin("lane", "B")
    assert ledger.lane_busy("lane")
    ledger.lane_published("lane", first, {})
    assert ledger.lane_busy("lane")
    ledger.lane_published("lane", second, {})
    assert not ledger.lane_busy("lane")


def test_a_lane_never_goes_back(world: World) -> None:
    """A late loser learns who won."""
    ledger = world.ledger
    assert ledger.lane_newest("lane") == (0, {})
    first, second = ledger.lane_begin("lane", "A"), ledger.lane_begin("lane", "B")
    assert second > first > 0
    assert ledger.lane_published("lane", second, {"digest": "b"}) == (second, {"digest": "b"})
    assert ledger.lane_published("lane", first, {"digest": "a"}) == (second, {"digest": "b"})
    assert ledger.lane_newest("lane") == (second, {"digest": "b"})
    assert ledger.lane_published("lane", second, {"digest": "b"}) == (second, {"digest": "b"})
    assert ledger.lane_begin("lane", "C") > second


def test_workers_are_those_who_beat_lately(world: World) -> None:
    """A farewell counts at once, a death after a lease and a half."""
    ledger = world.ledger
    ledger.beat("worker-2", 4, {"host": "there", "prints": {"store": "x"}}, [])
    ledger.beat("worker-3", 4, {}, [])
    ledger.farewell("worker-3")
    seen = {worker.owner: (worker.slots, worker.info) for worker in ledger.workers()}
    assert seen == {
        OWNER: (1000, {"host": "here"}),
        "worker-2": (4, {"host": "there", "prints": {"store": "x"}}),
    }
    world.advance(world.rules.live + 1)
    assert [worker.owner for worker in ledger.workers()] == [OWNER]


def test_check_says_what_the_server_is(world: World) -> None:
    """`doctor` prints it."""
    answer = world.ledger.check()
    assert answer["policy"] == "noeviction"
    assert answer["server"] in ("memory", "valkey", "redis")


@pytest.mark.servers
def test_the_reaper_sweeps_workers_that_are_gone(redis_world: World) -> None:
    """Their records have no TTL."""
    world = redis_world
    assert isinstance(world.ledger, RedisLedger)
    world.ledger.beat("worker-2", 4, {}, [])
    world.advance(world.rules.live + 1)
    world.ledger.reap(OWNER)
    redis = world.ledger.redis
    for name in ("slots", "info"):
        assert list(redis.client.hgetall(redis.key(name))) == [OWNER]
