"""What is late or held up and why, patience with steps that are only given back, which steps are open."""

from __future__ import annotations

import pytest

from distworker.state.base import Overdue
from distworker.state.ledger import RedisLedger
from tests.contracts.ledger_storm import set_memory_full
from tests.contracts.ledger_world import OWNER, World, download, expand, upload

BUSY = {"code": "unavailable", "message": "dst answers 503"}


def overdue(world: World) -> dict[str, Overdue]:
    return {row.id: row for row in world.ledger.overdue()}


def test_a_ledger_in_good_order_has_nothing_overdue(world: World) -> None:
    """Running, queued and ready steps, and those that wait for them, are no news."""
    world.planned({"J-1": [upload("a"), upload("b")]})
    world.take("d:t/a")
    assert world.ledger.overdue() == []


def test_a_lease_that_ran_out_is_overdue(world: World) -> None:
    """Until the reaper has been there; who waits for it is listed behind it."""
    world.planned({"J-1": [upload("a", stored=True)]})
    world.take("u:a@dst")
    world.advance(world.rules.lease + 1)
    first, second = world.ledger.overdue()
    assert (first.id, first.job, first.state, first.worker) == ("u:a@dst", "J", "running", OWNER)
    assert first.reason.startswith("its lease ran out at 2023-11-14 22:13:32 UTC")
    assert first.text == "upload a (100 B) to dst/J"
    assert first.deadline == first.since + world.rules.lease
    assert (second.id, second.state, second.deadline) == ("m:J-1", "waiting", None)
    assert second.reason == "waits for u:a@dst"


def test_a_message_that_nobody_takes_is_overdue(world: World) -> None:
    """From the second one on, until a worker does."""
    world.ledger.open_job("J", {}, expand())
    world.pump()
    assert world.ledger.overdue() == []
    world.reap_after(world.rules.resend)
    world.pump()
    row = overdue(world)["j:J"]
    assert (row.state, row.worker) == ("queued", "")
    assert "no worker has taken its message" in row.reason
    world.claim("j:J")
    assert world.ledger.overdue() == []


def test_a_delayed_step_says_what_it_waits_for(world: World) -> None:
    """The last error is kept with the step, whether it was charged or not."""
    world.planned({"J-1": [upload("a", stored=True)]})
    world.fail(world.take("u:a@dst"), retry=True, delay=50)
    row = overdue(world)["u:a@dst"]
    assert row.state == "delayed"
    assert row.reason.endswith("last error: no answer")
    world.reap_after(51)
    claim = world.take("u:a@dst")
    world.ledger.release(claim.id, claim.token, 50.0, error=BUSY)
    assert overdue(world)["u:a@dst"].reason.endswith("last error: dst answers 503")


def test_errors_stay_with_the_way_that_had_them(world: World) -> None:
    """A new home has not failed yet."""
    world.planned({"J-1": [upload("a", "J", stored=True)]}, "J")
    world.planned({"K-1": [upload("a", "K", stored=True)]}, "K")
    claim = world.take("u:a@dst")
    world.ledger.release(claim.id, claim.token, 50.0, error=BUSY)
    world.ledger.cancel("J")
    assert overdue(world)["u:a@dst"].reason == "runs again at 2023-11-14 22:14:10 UTC"


def test_a_pause_is_named_with_who_made_it(world: World) -> None:
    """By the origin itself, by an operator, of the job."""
    world.planned({"J-1": [upload("a", stored=True), upload("b", "J", destination="two", stored=True)]})
    claim = world.take("u:a@dst")
    world.give_back()
    world.ledger.release(claim.id, claim.token, 30.0, "kind")
    world.reap_after(1)
    world.ledger.pause_origin("two")
    claim = world.ledger.release("u:b@two", "nothing")
    rows = overdue(world)
    assert "runs again at" in rows["u:a@dst"].reason
    assert rows["u:b@two"].reason == "origin two is paused by an operator"
    world.ledger.resume_origin("two")
    world.ledger.pause_job("J")
    world.pump()
    assert overdue(world)["u:b@two"].reason == "job J is paused by an operator"


def test_a_step_behind_a_429_says_until_when(world: World) -> None:
    """It is ready, and its slot is closed."""
    world.planned({"J-1": [upload(name, stored=True) for name in "ab"]})
    claim = world.take("u:a@dst")
    world.ledger.release(claim.id, claim.token, 30.0, "kind")
    world.give_back()
    row = overdue(world)["u:b@dst"]
    assert (row.state, row.deadline) == ("ready", None)
    assert row.reason == "origin dst asked for a pause until 2023-11-14 22:13:50 UTC"


def test_short_memory_holds_up_what_would_need_more(world: World) -> None:
    """Images that are planned already go on."""
    world.planned({"K-1": [upload("a", "K", stored=True)]}, "K")
    world.open(["J-1"])
    world.ledger.open_job("L", {}, expand("L"))
    world.give_back()
    set_memory_full(world.ledger, True)
    assert world.pump() == ["u:a@dst"]
    rows = overdue(world)
    assert "memory of Redis" in rows["p:J-1"].reason
    assert "memory of Redis" in rows["j:L"].reason
    assert rows["m:J-1"].reason == "waits for p:J-1"
    set_memory_full(world.ledger, False)
    assert world.pump() == ["p:J-1", "j:L"]


@pytest.mark.servers
def test_the_reaper_sees_when_the_server_is_above_its_ceiling(redis_world: World) -> None:
    """At 70 % of maxmemory expand and plan stop; when there is room again they go on by themselves."""
    world = redis_world
    assert isinstance(world.ledger, RedisLedger)
    client = world.ledger.redis.client
    world.open(["J-1"])
    world.planned({"K-1": [upload("a", "K", stored=True)]}, "K")
    world.ledger.open_job("L", {}, expand("L"))
    world.give_back()
    try:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.25))
        world.reap_after(1)
        assert world.pump() == ["u:a@dst"]
        assert "above the ceiling" in overdue(world)["p:J-1"].reason
        assert 0 < client.pttl(world.ledger.redis.key("full")) <= world.rules.full * 1000
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 2))
        world.reap_after(1)
        assert world.pump() == ["p:J-1", "j:L"]
        assert client.exists(world.ledger.redis.key("full")) == 0
    finally:
        client.config_set("maxmemory", 0)


def test_without_workers_everything_ready_is_held_up(world: World) -> None:
    """Nobody is alive to run it."""
    world.ledger.open_job("J", {}, expand())
    world.ledger.farewell(OWNER)
    assert overdue(world)["j:J"].reason == "no worker is alive"


def test_no_more_is_listed_than_asked(world: World) -> None:
    """A million waiting images would not fit on a screen."""
    world.planned({f"J-{n}": [upload(f"{n}", stored=True)] for n in range(8)})
    world.pump()
    world.reap_after(world.rules.resend)
    world.pump()
    assert len(world.ledger.overdue(limit=3)) == 3
    assert len(world.ledger.overdue()) == 16


def test_a_step_that_is_only_given_back_fails_in_the_end(world: World) -> None:
    """Nothing is in progress for ever: after a day of one 503 after the other the image fails with it."""
    world.planned({"J-1": [upload("a", stored=True)]})
    for _ in range(23):
        claim = world.take("u:a@dst")
        assert world.ledger.release(claim.id, claim.token, 3600.0, error=BUSY)
        world.advance(3600.0)
        world.ledger.reap(OWNER)
        assert world.state() == "running"
    while world.state() == "running":
        claim = world.take("u:a@dst")
        assert claim.attempt == 1
        assert world.ledger.release(claim.id, claim.token, 3600.0, error=BUSY)
        world.advance(3600.0)
        world.ledger.reap(OWNER)
    assert world.outcomes()["J-1"]["error"] == BUSY


def test_an_operator_s_pause_does_not_use_up_the_patience(world: World) -> None:
    """A job that stood still for a week has not been failing for a week."""
    world.planned({"J-1": [upload("a", stored=True)]})
    claim = world.take("u:a@dst")
    world.ledger.release(claim.id, claim.token, 10.0, error=BUSY)
    world.ledger.pause_job("J")
    world.advance(7 * 86400.0)
    world.ledger.reap(OWNER)
    world.ledger.resume_job("J")
    claim = world.take("u:a@dst")
    assert world.ledger.release(claim.id, claim.token, 10.0, error=BUSY)
    assert world.state() == "running"


@pytest.mark.parametrize("what", ["fail", "block"])
def test_anything_else_that_happens_restarts_the_patience(world: World, what: str) -> None:
    """A charged failure has a limit of its own, and so has looking for what is missing."""
    world.planned({"J-1": [upload("a", stored=True)]})
    for _ in range(3):
        for _ in range(23):
            claim = world.take("u:a@dst")
            world.ledger.release(claim.id, claim.token, 3600.0, error=BUSY)
            world.advance(3600.0)
            world.ledger.reap(OWNER)
        claim = world.take("u:a@dst")
        if what == "fail":
            world.fail(claim, retry=True)
        else:
            world.ledger.block(claim.id, claim.token, [download("x")])
            world.finish("d:t/x")
    assert world.state() == "running"


def test_a_drained_step_is_never_out_of_patience(world: World) -> None:
    """It was given back because its worker stops; there is no error."""
    world.planned({"J-1": [upload("a", stored=True)]})
    for _ in range(40):
        claim = world.take("u:a@dst")
        world.ledger.release(claim.id, claim.token)
        world.advance(3600.0)
    assert world.state() == "running"


def test_a_long_error_is_kept_short(world: World) -> None:
    """A record is no place for a whole page of HTML."""
    world.planned({"J-1": [upload("a", stored=True)]})
    claim = world.take("u:a@dst")
    world.ledger.release(
        claim.id, claim.token, 5.0, error={**BUSY, "message": "x" * 9000, "body": "y" * 9000}
    )
    assert len(overdue(world)["u:a@dst"].reason) < 1200


def test_all_unfinished_steps_of_a_kind_can_be_read(world: World) -> None:
    """With their bodies, whatever state they are in, and whoever's they are."""
    world.planned({f"J-{n}": [upload(f"{n}"), upload("shared")] for n in range(3)})
    world.take("d:t/1")
    steps = dict(world.ledger.open_steps("du"))
    assert sorted(steps) == sorted(
        f"{kind}{n}{end}" for n in ("0", "1", "2", "shared") for kind, end in (("d:t/", ""), ("u:", "@dst"))
    )
    assert steps["u:shared@dst"]["destination"]["host"] == "dst"
    assert sorted(dict(world.ledger.open_steps("mpj"))) == ["m:J-0", "m:J-1", "m:J-2"]
    assert list(world.ledger.open_steps("")) == []
