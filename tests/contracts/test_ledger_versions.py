"""Old and new workers on one ledger: a record of a newer version is left for those who know it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distworker.state.base import Beat, StepSpec
from distworker.state.ledger import RedisLedger
from tests.contracts.ledger_world import OWNER, World, download, upload

#: What a newer version might keep in a record, and this one knows nothing of.
UNKNOWN = {"zz": {"list": [1, 2, 3], "text": "é"}, "yy": 7, "ww": "x"}

_STAMP = """
local r = cmsgpack.unpack(redis.call('GET', KEYS[1]))
r.v = 2
for name, value in pairs(cjson.decode(ARGV[1])) do r[name] = value end
redis.call('SET', KEYS[1], cmsgpack.pack(r))
"""
_READ = "return cjson.encode(cmsgpack.unpack(redis.call('GET', KEYS[1])))"


def stamp(world: World, step: str) -> None:
    """A newer worker rewrote this step's record."""
    assert isinstance(world.ledger, RedisLedger)
    redis = world.ledger.redis
    redis.client.eval(_STAMP, 1, redis.key("step", step), json.dumps(UNKNOWN))


def record(world: World, step: str) -> dict[str, Any]:
    assert isinstance(world.ledger, RedisLedger)
    redis = world.ledger.redis
    found: dict[str, Any] = json.loads(str(redis.client.eval(_READ, 1, redis.key("step", step))))
    return found


def raw(world: World, step: str) -> Any:
    """The record's bytes, as the server has them."""
    assert isinstance(world.ledger, RedisLedger)
    redis = world.ledger.redis
    return redis.client.eval("return redis.sha1hex(redis.call('GET', KEYS[1]))", 1, redis.key("step", step))


class NewerWorld(World):
    """The same server through the eyes of a worker that knows version 2."""

    def __init__(self, url: str, world: World) -> None:
        assert isinstance(world.ledger, RedisLedger)
        ledger = RedisLedger(url, rules=world.rules, clock=world.ledger.redis.now)
        text = ledger.redis._rules_json
        ledger.redis._rules_json = lambda: json.dumps({**json.loads(text()), "v": 2})  # type: ignore[method-assign]
        super().__init__(ledger, world._move, world.rules)
        self.inbox = world.inbox
        self._tokens = 1000


pytestmark = pytest.mark.servers


def test_a_queued_record_of_a_newer_version_is_refused_and_not_touched(
    redis_world: World, redis_url: str
) -> None:
    """Claimed by the wrong worker a hundred times, it is still there for the right one."""
    world = redis_world
    world.planned({"J-1": [upload("a", stored=True)]})
    world.pump()
    stamp(world, "u:a@dst")
    for _ in range(100):
        assert world.refused("u:a@dst") == "newer"
    assert {name: record(world, "u:a@dst")[name] for name in UNKNOWN} == UNKNOWN
    claim = NewerWorld(redis_url, world).claim("u:a@dst")
    assert claim.attempt == 1


def test_a_body_of_a_newer_version_is_sent_again_soon_however_often_it_was_refused(world: World) -> None:
    """The refusals are nobody's fault: they do not stretch the time to the next message."""
    world.ledger.open_job("J", {}, StepSpec("j:J", "J", {"v": 2}))
    for _ in range(8):
        assert world.pump() == ["j:J"]
        assert world.refused("j:J") == "newer"
        assert world.reap_after(world.rules.newer) == 1
    assert world.pump() == ["j:J"]
    assert world.reap_after(world.rules.resend) == 1, "a lost message is missed as soon as the first"


@pytest.mark.parametrize("state", ["queued", "running", "delayed"])
def test_the_reaper_leaves_what_is_overdue_to_a_newer_one(
    redis_world: World, redis_url: str, state: str
) -> None:
    """It neither gives it back nor charges it; the newer worker's reaper does."""
    world = redis_world
    world.planned({"J-1": [upload("a", stored=True)]})
    world.pump()
    if state != "queued":
        claim = world.claim("u:a@dst")
        if state == "delayed":
            world.ledger.release(claim.id, claim.token, 5.0)
    stamp(world, "u:a@dst")
    before = raw(world, "u:a@dst")
    assert world.reap_after(60) == 0
    assert raw(world, "u:a@dst") == before
    assert "newer version" in world.ledger.overdue()[0].reason
    newer = NewerWorld(redis_url, world)
    newer.advance(2)
    assert newer.ledger.reap(OWNER) == 1
    newer.finish("u:a@dst")


def test_an_old_reaper_that_is_always_first_does_not_keep_a_newer_one_from_its_steps(
    redis_world: World, redis_url: str
) -> None:
    """Both look each second; the old one's look may be just before the newer one's for hours."""
    world = redis_world
    world.planned({"J-1": [upload("x")]})
    world.pump()
    stamp(world, "d:t/x")
    newer = NewerWorld(redis_url, world)
    world.reap_after(world.rules.resend + 5.0)
    assert world.ledger.reap(OWNER) == 0
    assert newer.ledger.reap(OWNER) == 1
    assert "d:t/x" in newer.pump()


def test_an_old_pump_leaves_it_in_its_place_and_admits_what_is_behind(
    redis_world: World, redis_url: str
) -> None:
    """It does not stand in the way of steps that the old worker can run."""
    world = redis_world
    world.planned({"J-1": [upload(name, stored=True) for name in "abc"], "J-2": [download("x")]})
    world.give_back()
    for step in ("u:a@dst", "u:b@dst", "d:t/x"):
        stamp(world, step)
    before = raw(world, "u:a@dst")
    assert world.pump() == ["u:c@dst"]
    assert world.pump() == []
    assert raw(world, "u:a@dst") == before
    assert sorted(NewerWorld(redis_url, world).pump()) == ["d:t/x", "u:a@dst", "u:b@dst"]


def test_unknown_fields_survive_what_an_old_worker_writes(redis_world: World, redis_url: str) -> None:
    """Who subscribes, what it waits for and what it got is written by everybody."""
    world = redis_world
    world.planned({"J-1": [upload("a")]})
    world.give_back()
    for step in ("u:a@dst", "m:J-1"):
        stamp(world, step)
    world.planned({"K-1": [upload("a", "K")]}, "K")
    world.ledger.pause_job("J")
    world.ledger.resume_job("J")
    world.finish("d:t/a")
    for step in ("u:a@dst", "m:J-1"):
        found = record(world, step)
        assert {name: found[name] for name in UNKNOWN} == UNKNOWN, step
        assert found["v"] == 2
    newer = NewerWorld(redis_url, world)
    assert {step for step in newer.run_all() if step[0] == "m"} == {"m:J-1", "m:K-1"}
    assert newer.state() == "done"


def test_a_failure_waits_for_a_newer_worker_to_tell_newer_images(redis_world: World, redis_url: str) -> None:
    """An old worker drops no record that it does not know; what it knows fails at once."""
    world = redis_world
    world.planned({"J-1": [upload("a", stored=True)], "J-2": [upload("a", stored=True)]})
    stamp(world, "m:J-1")
    before = raw(world, "m:J-1")
    assert world.fail(world.take("u:a@dst")) == "failed"
    assert list(world.outcomes()) == ["J-2"]
    world.reap_after(5)
    assert (world.state(), raw(world, "m:J-1")) == ("running", before)
    newer = NewerWorld(redis_url, world)
    newer.advance(2)
    newer.ledger.reap(OWNER)
    assert sorted(world.outcomes()) == ["J-1", "J-2"]
    assert world.state() == "failed"


def test_a_cancel_leaves_newer_images_to_a_newer_worker(redis_world: World, redis_url: str) -> None:
    """The call returns; the job closes when somebody who knows them has been there."""
    world = redis_world
    world.planned({"J-1": [upload("a")], "J-2": [upload("b")]})
    world.give_back()
    stamp(world, "m:J-1")
    stamp(world, "u:b@dst")
    assert world.ledger.cancel("J")
    world.reap_after(5)
    assert world.state() == "cancelling"
    assert list(world.outcomes()) == ["J-2"]
    assert record(world, "u:b@dst")["zz"] == UNKNOWN["zz"], "unwanted, and still not dropped"
    newer = NewerWorld(redis_url, world)
    newer.advance(2)
    newer.ledger.reap(OWNER)
    assert world.state() == "cancelled"
    assert list(world.ledger.open_steps("mudpj")) == []


def test_a_running_step_survives_its_record_becoming_newer(redis_world: World) -> None:
    """Its worker beats and finishes it as before."""
    world = redis_world
    world.planned({"J-1": [upload("a", stored=True)]})
    claim = world.take("u:a@dst")
    stamp(world, "u:a@dst")
    assert world.ledger.beat(OWNER, 4, {}, [Beat(claim.id, claim.token, 5, 10)]) == []
    assert record(world, "u:a@dst")["zz"] == UNKNOWN["zz"]
    world.done(claim)
    assert world.pump() == ["m:J-1"]
