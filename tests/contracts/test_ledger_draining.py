"""A step with many subscribers is over: they are told a few in a call, each once, whoever dies meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from distworker.state import wire
from distworker.state.base import Change, Claim
from distworker.state.keys import STANDING
from distworker.state.ledger import RedisLedger
from tests.contracts.conftest import RULES
from tests.contracts.ledger_storm import Clock, Storm
from tests.contracts.ledger_world import SIZE, World, upload
from tests.contracts.test_ledger_model import check_accounts

pytestmark = pytest.mark.servers
IMAGES = 7
BITE = 2
ERROR = {"code": "unavailable", "message": "no answer"}


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    """A real server on which a call tells two subscribers."""
    clock = [1_700_000_000.0]
    rules = replace(RULES, tell=BITE)
    ledger = RedisLedger(redis_url, rules=rules, clock=lambda: clock[0])

    def move(seconds: float) -> None:
        clock[0] += seconds

    yield World(ledger, move, rules)
    ledger.close()


def shared(world: World, job: str = "J", source: str = "src", stored: bool = True) -> None:
    """A job whose images all want the same layer."""
    images = {f"{job}-{n}": [upload("a", job, source, stored=stored)] for n in range(IMAGES)}
    world.planned(images, job)


def run(world: World, script: str, *args: Any) -> Any:
    """One script call, and nothing after it: its caller died."""
    assert isinstance(world.ledger, RedisLedger)
    return world.ledger.redis.run(script, *args)


def dies_after_done(world: World, claim: Claim, **change: Any) -> None:
    said = run(world, "done", claim.id, claim.token, wire.change(Change(**change)))
    assert said == ["done", 1], "there is more to tell"


def dies_after_fail(world: World, claim: Claim) -> None:
    assert run(world, "fail", claim.id, claim.token, wire.text(ERROR), 0, 0, 0) == ["failed", 1]


def test_all_are_told_before_done_returns(world: World) -> None:
    """Every image is published once, each with what was delivered, and the step is gone."""
    shared(world)
    world.finish("u:a@dst", delivered={"repository": "x"})
    assert world.refused("u:a@dst") == "unknown"
    published = [step for _ in range(3) for step in world.pump()]
    assert sorted(published) == [f"m:J-{n}" for n in range(IMAGES)]
    assert {world.claim(step).delivered["u:a@dst"]["repository"] for step in published} == {"x"}
    assert world.counters()["saved_shared"] == SIZE * (IMAGES - 1)
    assert world.ledger.overdue() == []


def test_a_call_tells_no_more_than_its_share(world: World) -> None:
    """The home and two others; nobody runs the step meanwhile, and it can be seen."""
    shared(world)
    claim = world.take("u:a@dst")
    dies_after_done(world, claim)
    assert len(world.pump()) == 1 + BITE
    assert world.refused("u:a@dst") == "superseded"
    row = world.ledger.overdue()[0]
    assert (row.id, row.state) == ("u:a@dst", "draining")
    assert "are being told" in row.reason
    assert "u:a@dst" in dict(world.ledger.open_steps("u"))


def test_the_reaper_goes_on_when_the_caller_died(world: World) -> None:
    """Nothing hangs on the process that did the work."""
    shared(world)
    claim = world.take("u:a@dst")
    dies_after_done(world, claim)
    assert world.ledger.done(claim.id, claim.token, Change()), "repeated, it is answered as the first"
    world.reap_after(10)
    assert len(world.run_all()) == IMAGES
    assert (world.state(), world.counters()["done"]) == ("done", IMAGES)


def test_a_late_subscriber_of_a_step_that_is_done_is_told_as_well(world: World) -> None:
    """It came a moment after the end and hears of it like the others."""
    shared(world)
    dies_after_done(world, world.take("u:a@dst"), delivered={"repository": "x"})
    world.planned({"K-1": [upload("a", "K", "other")]}, "K")
    world.reap_after(10)
    assert world.take("m:K-1").delivered["u:a@dst"] == {"repository": "x"}
    assert world.counters("K")["saved_shared"] == SIZE


@pytest.mark.parametrize("source", ["src", "other"])
def test_a_late_subscriber_of_a_step_that_failed_starts_a_new_round(world: World, source: str) -> None:
    """Also when it wants it the way that failed: that was before its time."""
    shared(world)
    dies_after_fail(world, world.take("u:a@dst"))
    world.planned({"K-1": [upload("a", "K", source)]}, "K")
    world.reap_after(10)
    assert (world.state("J"), world.counters("J")["failed"]) == ("failed", IMAGES)
    claim = world.take("d:t/a")
    assert (claim.job, claim.attempt, claim.body["source"]["host"]) == ("K", 1, source)
    world.done(claim)
    world.run_all()
    assert world.state("K") == "done"


def test_those_of_another_way_start_a_new_round_when_the_others_are_told(world: World) -> None:
    """Exactly the subscribers of the way that failed fail."""
    shared(world, "J")
    shared(world, "K", "other")
    world.fail(world.take("u:a@dst"))
    assert world.counters("J")["failed"] == IMAGES
    assert world.counters("K")["failed"] == 0
    claim = world.take("u:a@dst")
    assert (claim.job, claim.attempt) == ("K", 1)
    world.done(claim)
    world.run_all()
    assert (world.state("J"), world.state("K")) == ("failed", "done")


def test_a_failure_below_reaches_all_the_way_up_in_bites(world: World) -> None:
    """The download fails, the upload with it, and all its images."""
    shared(world, stored=False)
    dies_after_fail(world, world.take("d:t/a"))
    world.reap_after(20)
    assert (world.state(), world.counters()["failed"]) == ("failed", IMAGES)
    assert list(world.ledger.open_steps("mudpj")) == []


def test_a_job_cancelled_while_its_step_drains_closes_once(world: World) -> None:
    """Some were told, the others are cancelled; nobody is counted twice."""
    shared(world)
    dies_after_fail(world, world.take("u:a@dst"))
    world.ledger.cancel("J")
    world.reap_after(10)
    counters = world.counters()
    assert counters["failed"] + counters["cancelled"] == IMAGES
    assert (world.state(), counters["open"]) == ("cancelled", 0)
    assert list(world.ledger.open_steps("mudpj")) == []


def test_a_large_cancel_is_done_in_bites(world: World) -> None:
    """No call closes more images than it may."""
    shared(world)
    world.give_back()
    assert 0 < run(world, "cancel", "J") < IMAGES
    world.reap_after(20)
    assert (world.state(), world.counters()["cancelled"]) == ("cancelled", IMAGES)


@pytest.mark.parametrize("seed", range(5))
def test_no_storm_leaves_anything_behind_when_calls_tell_one(redis_url: str, seed: int) -> None:
    """Whatever happens while steps drain: every job closes, every image once, nothing is left behind."""
    clock = Clock()
    rules = replace(RULES, attempts=3, runs=6, rounds=2, answer=1e6, tell=1)
    redis = RedisLedger(redis_url, rules=rules, clock=clock)
    storm = Storm([redis], clock, seed)
    storm.run(250)
    storm.calm()
    check_accounts(storm)
    standing = {redis.redis.key(name) for name in STANDING}
    client = redis.redis.client
    assert sorted(str(k) for k in client.scan_iter() if client.ttl(k) < 0 and k not in standing) == []
    redis.close()
