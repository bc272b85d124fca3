"""The scripts in a real server, move by move against the model: every answer, and every record they leave.

The histories are those that the explorer found to make every kind of move in every kind of situation, and
what hypothesis makes up. The server's records are read from its raw keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from distworker.state.keys import STANDING
from distworker.state.ledger import RedisLedger
from distworker.state.memory import MemoryLedger
from tests.contracts.ledger_storm import Clock
from tests.explore import invariants, records
from tests.explore.explorer import RULES, START, Explorer, planned, restore, take
from tests.explore.layouts import LAYOUTS
from tests.explore.world import Layout, World

pytestmark = pytest.mark.servers


#: Keep what is there under other names; bring it back.
SAVE = "for _, k in ipairs(redis.call('KEYS', '*')) do redis.call('COPY', k, 'copy:' .. k) end"
LOAD = """
for _, k in ipairs(redis.call('KEYS', 'dw:*')) do redis.call('DEL', k) end
for _, k in ipairs(redis.call('KEYS', 'copy:*')) do redis.call('COPY', k, string.sub(k, 6)) end
"""


class Pair:
    """The model and the server side by side."""

    def __init__(self, url: str) -> None:
        self._clock = Clock(START)
        self.redis = RedisLedger(url, rules=RULES, clock=lambda: self._clock.now)
        self._client: Any = self.redis.redis.client

    def world(self, layout: Layout) -> World:
        """A new world on both, in which everything is planned."""
        self._clock = Clock(START)
        self._client.flushdb()
        world = World([MemoryLedger(RULES, self._clock), self.redis], self._clock, layout)
        for move in planned(layout):
            world.make(move)
        return world

    def save(self, world: World) -> bytes:
        """Keep a copy of it."""
        self._client.eval(SAVE, 0)
        return take(dataclasses.replace(world, ledgers=world.ledgers[:1]))

    def load(self, copy: bytes) -> World:
        """As it was."""
        self._client.eval(LOAD, 0)
        world = restore(copy)
        world.ledgers.append(self.redis)
        self._clock = world.clock
        return world

    def compare(self, world: World) -> None:
        """Both hold the same, and what they hold keeps the promises."""
        model = world.ledgers[0]
        assert isinstance(model, MemoryLedger)
        theirs = records.of_redis(self.redis)
        invariants.check(theirs)
        assert theirs == records.of_model(model)
        for job in world.opened:
            world.ask(lambda ledger, job=job: ledger.job(job))

    def finish(self, world: World) -> None:
        """Everything ends, and nothing stays on the server but what belongs to the installation."""
        world.calm()
        invariants.check_nothing_left(records.of_redis(self.redis))
        connection = self.redis.redis
        standing = {connection.key(name) for name in STANDING}
        left = [
            k for k in connection.client.scan_iter() if connection.client.ttl(k) < 0 and k not in standing
        ]
        assert left == []


@pytest.fixture
def pair(redis_url: str) -> Iterator[Pair]:
    """An empty database."""
    pair = Pair(redis_url)
    yield pair
    pair.redis.close()


def test_each_move_in_each_situation_is_the_same_in_both(pair: Pair) -> None:
    """Each of the explorer's paths, told again."""
    layout = LAYOUTS["a later job comes first"]
    explorer = Explorer(layout, 1, begin=planned(layout), sample=10**9)
    explorer.run()
    paths, begin = explorer.paths(), pair.save(pair.world(layout))
    assert len(paths) > 100
    for path in paths:
        world = pair.load(begin)
        try:
            for move in path:
                world.make(move)
            pair.compare(world)
        except AssertionError as error:
            raise AssertionError(f"after {path}: {error}") from error


class Machine(RuleBasedStateMachine):
    """Histories that hypothesis makes up, with many faults."""

    pair: Pair

    @initialize(layout=st.sampled_from(sorted(LAYOUTS)))
    def begin(self, layout: str) -> None:
        """Some world, all of whose images are planned."""
        self.world = self.pair.world(LAYOUTS[layout])

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """Any move that there is."""
        self.world.make(data.draw(st.sampled_from(self.world.moves(10))))

    @invariant()
    def same(self) -> None:
        """See `Pair.compare`."""
        if hasattr(self, "world"):
            self.pair.compare(self.world)

    def teardown(self) -> None:
        """See `Pair.finish`."""
        if hasattr(self, "world"):
            self.pair.finish(self.world)


class Abandoning(RedisLedger):
    """Its caller dies after the first script of each end; who is not told by then is left to the reaper."""

    def _ended(self, script: str, *args: str | int) -> str:
        said, _ = self.redis.run(script, *args)
        return str(said)


class Abandoned(RuleBasedStateMachine):
    """Histories on the server alone, in which no caller lives to tell more than one who waits."""

    url: str

    @initialize(layout=st.sampled_from(sorted(LAYOUTS)))
    def begin(self, layout: str) -> None:
        """Some world, from the beginning."""
        clock = Clock(START)
        self.ledger = Abandoning(self.url, rules=RULES, clock=clock)
        client: Any = self.ledger.redis.client
        client.flushdb()
        self.world = World([self.ledger], clock, LAYOUTS[layout])
        for job in sorted(LAYOUTS[layout].jobs):
            self.world.make(("open", job))

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """Honest moves mostly: what is to be seen comes late."""
        self.world.make(data.draw(st.sampled_from(self.world.moves(data.draw(st.sampled_from([0, 0, 4]))))))

    @invariant()
    def kept(self) -> None:
        """The promises hold while steps drain."""
        if hasattr(self, "world"):
            found = records.of_redis(self.ledger)
            invariants.check(found)
            invariants.check_moves(found, self.world.moved)

    def teardown(self) -> None:
        """The reaper tells the rest, and everything ends."""
        if hasattr(self, "world"):
            self.world.calm()
            invariants.check_nothing_left(records.of_redis(self.ledger))
            self.ledger.close()


def test_both_agree_in_histories_that_hypothesis_makes_up(pair: Pair) -> None:
    """Shrunk to the shortest one when they do not."""
    _run(type("Machine", (Machine,), {"pair": pair}))


def test_callers_who_die_before_all_are_told_leave_nothing_undone(redis_url: str) -> None:
    """One subscriber is told in each call; the others wait for the next reaper."""
    _run(type("Abandoned", (Abandoned,), {"url": redis_url}))


def _run(machine: Callable[[], RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
