"""Facts about registries, shared by workers through a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distworker.errors import StateUnavailable
from distworker.registry.learned import AWAY, MemoryFacts, SharedFacts, life
from distworker.state.connection import Connection
from distworker.state.learned import FACTS_MAX, KEEP, TEXT_MAX, RedisFacts

pytestmark = pytest.mark.servers
ORIGIN = "reg.example"


class World:
    """Redis, and a clock that both of its sides go by."""

    def __init__(self, connection: Connection) -> None:
        self.redis = connection
        self.now = 1_700_000_000.0
        self.store = RedisFacts(connection, life, lambda: self.now)

    def worker(self) -> SharedFacts:
        """The facts of another worker process."""
        return SharedFacts(self.store, lambda: self.now)

    def key(self, origin: str = ORIGIN) -> str:
        return self.redis.key("fact", origin)


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    """An empty database."""
    connection = Connection(redis_url)
    yield World(connection)
    connection.close()


def test_what_one_worker_learned_another_knows(world: World) -> None:
    """For the same origin only."""
    world.worker().put(ORIGIN, "upload_mode", "patch")
    assert world.worker().get(ORIGIN, "upload_mode") == "patch"
    assert world.worker().get("other.example", "upload_mode") == ""
    assert world.worker().get(ORIGIN, "chunk_bytes") == ""


def test_the_newest_word_counts(world: World) -> None:
    """A registry may be upgraded."""
    world.worker().put(ORIGIN, "chunk_bytes", "4194304")
    world.worker().put(ORIGIN, "chunk_bytes", "8388608")
    assert world.worker().get(ORIGIN, "chunk_bytes") == "8388608"


def test_a_fact_is_believed_for_its_life(world: World) -> None:
    """Minutes or a day, by what it is about."""
    world.worker().put(ORIGIN, "referrers:team/app", "no")
    world.worker().put(ORIGIN, "upload_mode", "patch")
    world.now += 301
    assert world.worker().get(ORIGIN, "referrers:team/app") == ""
    assert world.worker().get(ORIGIN, "upload_mode") == "patch"
    world.now += KEEP
    assert world.worker().get(ORIGIN, "upload_mode") == ""


def test_nothing_stays_for_ever(world: World) -> None:
    """The hash of an origin has a TTL, renewed by each change."""
    world.worker().put(ORIGIN, "upload_mode", "patch")
    assert 0 < world.redis.client.ttl(world.key()) <= KEEP


def test_a_hash_that_grew_too_large_begins_anew(world: World) -> None:
    """Facts can be learned again; memory of Redis cannot be had again."""
    for number in range(FACTS_MAX):
        world.store.put(ORIGIN, f"referrers:a/{number}", "no")
    assert world.redis.client.hlen(world.key()) == FACTS_MAX
    world.store.put(ORIGIN, "referrers:a/more", "no")
    assert world.redis.client.exists(world.key()) == 0


@pytest.mark.parametrize(
    "text",
    [
        "patch",
        "1700000100 rm -rf",
        "1700000100 ",
        "-5 patch",
        "9" * 4000 + " patch",
        "1700000100 patch" + "x" * 4000,
        "9999999999 patch",
        "1600000000 patch",
        "\u0661 patch",
        "",
    ],
)
def test_what_stands_in_redis_is_not_believed_blindly(world: World, text: str) -> None:
    """No end, an end too far away or past, another text than the fact may have."""
    world.redis.client.hset(world.key(), "upload_mode", text)
    assert world.worker().get(ORIGIN, "upload_mode") == ""


def test_texts_are_cut_before_they_are_kept(world: World) -> None:
    """Whatever a caller may pass."""
    world.store.put(ORIGIN, "upload_mode", "x" * 4000)
    stored = str(world.redis.client.hget(world.key(), "upload_mode"))
    assert len(stored) == len("1700086400 ") + TEXT_MAX


def test_redis_away_leaves_every_process_its_own_memory(world: World) -> None:
    """It is not asked again for a while: each time-out would hold up a blob."""
    connection = Connection("redis://127.0.0.1:1/0")
    store = RedisFacts(connection, life, lambda: world.now)
    with pytest.raises(StateUnavailable):
        store.get(ORIGIN, "upload_mode")
    facts = SharedFacts(store, lambda: world.now)
    assert facts.get(ORIGIN, "upload_mode") == ""
    facts.put(ORIGIN, "upload_mode", "patch")
    assert facts.get(ORIGIN, "upload_mode") == "patch"
    connection.close()


def test_a_redis_that_came_back_is_used_again(world: World) -> None:
    """After the pause, both ways."""

    class Sometimes:
        def __init__(self) -> None:
            self.away, self.asked = True, 0

        def get(self, origin: str, name: str) -> str:
            self._check()
            return world.store.get(origin, name)

        def put(self, origin: str, name: str, value: str) -> None:
            self._check()
            world.store.put(origin, name, value)

        def _check(self) -> None:
            self.asked += 1
            if self.away:
                raise StateUnavailable("away", phase="state")

    store = Sometimes()
    facts = SharedFacts(store, lambda: world.now)
    facts.put(ORIGIN, "mounts", "none")
    facts.put(ORIGIN, "upload_mode", "patch")
    facts.get(ORIGIN, "chunk_bytes")
    assert store.asked == 1
    store.away = False
    world.now += AWAY
    world.store.put(ORIGIN, "chunk_bytes", "5")
    assert facts.get(ORIGIN, "chunk_bytes") == "5"
    facts.put(ORIGIN, "upload_mode", "chunked")
    assert MemoryFacts().get(ORIGIN, "upload_mode") == ""
    assert world.worker().get(ORIGIN, "upload_mode") == "chunked"
