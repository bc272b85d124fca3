"""Admission: window, kept share, ranks, priority, age, round robin, caps, pauses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distworker.state.base import StepSpec
from tests.contracts.ledger_world import World, download, expand, upload


def stored(job: str, count: int, origin: str = "dst", priority: int = 5) -> list[StepSpec]:
    return [
        upload(f"{job}{n}", job, destination=origin, priority=priority, stored=True) for n in range(count)
    ]


def with_slots(world: World, slots: int) -> None:
    world.slots = slots
    world.beat()


@pytest.mark.parametrize(("slots", "window"), [(0, 2), (1, 2), (4, 5), (8, 10), (16, 20)])
def test_the_window_is_the_live_slots_and_a_quarter(world: World, slots: int, window: int) -> None:
    """Messages wait for a worker a moment, never for hours."""
    with_slots(world, slots)
    for n in range(25):
        world.ledger.open_job(f"J{n}", {}, expand(f"J{n}"))
    assert len(world.pump()) == window
    assert world.pump() == [], "queued and running steps both count"


def test_waiting_steps_do_not_count_in_the_window(world: World) -> None:
    """Only what is queued or running does."""
    world.planned({"J-1": [upload(str(n)) for n in range(30)]})
    with_slots(world, 4)
    assert len(world.pump()) == 4


def test_layers_leave_a_share_for_publish_and_plan(world: World) -> None:
    """Large uploads never delay them."""
    world.planned({"J-1": stored("J", 30), "J-2": []})
    with_slots(world, 16)
    admitted = world.pump()
    assert admitted[0] == "m:J-2"
    assert len([step for step in admitted if step.startswith("u:")]) == 18
    world.ledger.open_job("K", {}, expand("K"))
    assert world.pump() == ["j:K"]


def test_a_dead_worker_s_slots_leave_the_window(world: World) -> None:
    """After a lease and a half without a beat."""
    with_slots(world, 4)
    world.ledger.beat("worker-2", 40, {}, [])
    for n in range(25):
        world.ledger.open_job(f"J{n}", {}, expand(f"J{n}"))
    world.advance(world.rules.live + 1)
    assert len(world.pump()) == 5


def test_ranks_go_publish_upload_download_plan_expand(world: World) -> None:
    """What frees most comes first, whatever its age."""
    world.open(["K-1"], "K")
    world.planned({"J-1": [download("a")], "J-2": stored("J", 1), "J-3": []})
    world.give_back()
    world.ledger.open_job("L", {}, expand("L"))
    assert world.pump() == ["m:J-3", "u:J0@dst", "d:t/a", "p:K-1", "j:L"]


def test_priority_comes_before_age_within_a_job(world: World) -> None:
    """9 is highest; equal ones go by age."""
    specs = [
        replace(spec, priority=priority) for spec, priority in zip(stored("J", 4), (5, 1, 9, 5), strict=True)
    ]
    world.planned({"J-1": specs})
    assert world.pump() == ["u:J2@dst", "u:J0@dst", "u:J3@dst", "u:J1@dst"]


def test_jobs_take_turns(world: World) -> None:
    """A small job behind a huge one is not made to wait."""
    world.planned({"J-1": stored("J", 20)}, "J")
    world.planned({"K-1": stored("K", 2)}, "K")
    world.give_back()
    with_slots(world, 4)
    assert sorted(step[:3] for step in world.pump()) == ["u:J", "u:J", "u:K", "u:K"]


def test_a_full_origin_does_not_delay_another(world: World) -> None:
    """Its cap is used up; the other origin's steps of the same job go on."""
    world.ledger.set_caps({"slow": 2})
    world.planned({"J-1": stored("J", 6, "slow"), "J-2": stored("F", 3, "fast")})
    admitted = world.pump()
    assert sorted(step.split("@")[1] for step in admitted) == ["fast"] * 3 + ["slow"] * 2
    world.done(world.claim("u:J0@slow"))
    assert world.pump() == ["u:J2@slow"]


def test_caps_are_per_credential(world: World) -> None:
    """Two accounts at one registry have a limit each."""
    world.ledger.set_caps({"dst": 1})
    first, second = stored("J", 2)
    world.planned({"J-1": [first, replace(second, credential="team")]})
    assert len(world.pump()) == 2


def test_caps_can_be_replaced(world: World) -> None:
    """A new setting holds from the next admission on."""
    world.ledger.set_caps({"dst": 1})
    world.planned({"J-1": stored("J", 3)})
    assert len(world.pump()) == 1
    world.ledger.set_caps({})
    assert len(world.pump()) == 2


def test_plan_and_publish_take_no_slot(world: World) -> None:
    """Only layers are capped."""
    world.ledger.set_caps({"src": 1, "dst": 1})
    world.planned({f"J-{n}": [] for n in range(4)})
    assert len(world.pump()) == 4


@pytest.mark.parametrize("end", ["done", "fail", "retry", "release", "block", "reap"])
def test_every_way_off_a_worker_frees_the_slot(world: World, end: str) -> None:
    """A leaked slot would stop the origin for ever."""
    world.ledger.set_caps({"dst": 1})
    world.planned({"J-1": stored("J", 1), "J-2": stored("K", 1)})
    claim = world.take("u:J0@dst")
    assert world.pump() == []
    if end == "done":
        world.done(claim)
    elif end in ("fail", "retry"):
        world.fail(claim, retry=end == "retry", delay=60)
    elif end == "release":
        world.ledger.release(claim.id, claim.token, 60)
    elif end == "block":
        world.ledger.block(claim.id, claim.token, [download("x")])
    else:
        world.reap_after(world.rules.lease + 1)
    assert world.pump(), "the slot is free for whoever is next"


def test_a_429_pauses_this_kind_at_this_origin_only(world: World) -> None:
    """Other kinds and other credentials go on."""
    specs = [*stored("J", 2), replace(stored("O", 1)[0], credential="team"), download("x", source="dst")]
    world.planned({"J-1": specs})
    claim = world.take("u:J0@dst")
    world.ledger.release(claim.id, claim.token, delay=30, pause="kind")
    world.give_back()
    assert sorted(world.pump()) == ["d:t/x", "u:O0@dst"]
    world.reap_after(31)
    assert {"u:J0@dst", "u:J1@dst"} <= set(world.inbox) | set(world.pump())


def test_an_address_limit_pauses_the_whole_origin(world: World) -> None:
    """Plans and publishes of it wait as well; other origins do not."""
    world.planned({"J-1": [*stored("J", 1), *stored("O", 1, "other")], "J-2": []})
    claim = world.take("u:J0@dst")
    world.ledger.release(claim.id, claim.token, delay=30, pause="origin")
    world.give_back()
    assert world.pump() == ["u:O0@other"]
    world.reap_after(31)
    assert {"m:J-2", "u:J0@dst"} <= set(world.pump())


def test_a_shorter_pause_does_not_cut_a_longer_one(world: World) -> None:
    """The latest end holds."""
    world.planned({"J-1": stored("J", 3)})
    for step, delay in (("u:J0@dst", 60.0), ("u:J1@dst", 5.0)):
        claim = world.take(step)
        world.ledger.release(claim.id, claim.token, delay=delay, pause="kind")
    last = world.claim("u:J2@dst")
    world.ledger.release(last.id, last.token)
    world.reap_after(30)
    assert world.pump() == []
    world.reap_after(31)
    assert len(world.pump()) == 3


def test_a_pause_ends_when_the_clock_goes_back_behind_its_beginning(world: World) -> None:
    """It would last for as long as the clock was wrong."""
    world.planned({"J-1": stored("J", 1)})
    claim = world.take("u:J0@dst")
    world.ledger.release(claim.id, claim.token, delay=60.0, pause="kind")
    world.ledger.reap("worker-1")
    world.advance(-3600)
    world.reap_after(61)
    assert world.pump() == ["u:J0@dst"]


def test_pump_admits_no_more_than_asked(world: World) -> None:
    """One call stays short."""
    world.planned({"J-1": stored("J", 10)})
    assert len(world.pump(3)) == 3
    assert len(world.pump(3)) == 3


def test_many_closed_pairs_delay_the_open_one_by_a_few_calls_only(world: World) -> None:
    """At most 64 pairs are looked at in a call, the next call goes on behind them."""
    world.ledger.set_caps({f"full{n}": 0 for n in range(100)})
    specs = [upload(f"{n}", destination=f"full{n}", stored=True) for n in range(100)]
    world.planned({"J-1": [*specs, upload("open", destination="open", stored=True)]})
    assert [step for _ in range(3) for step in world.pump()] == ["u:open@open"]


def test_a_higher_priority_job_goes_first_and_equal_ones_take_turns(world: World) -> None:
    """Whoever is in a hurry is served before the others; those get what is left, one after the other."""
    for job, priority in (("J", 1), ("K", 9), ("L", 1)):
        world.planned({f"{job}-1": stored(job, 3, priority=priority)}, job, priority)
    world.give_back()
    with_slots(world, 6)
    served = [step[2] for step in world.pump()]
    assert served[:3] == ["K", "K", "K"]
    assert sorted(served[3:]) == ["J", "J", "L", "L"]


def test_closed_pairs_of_a_high_priority_do_not_hide_open_ones_of_a_low_one(world: World) -> None:
    """Each ring has its share of the 64 looks of a call."""
    world.ledger.set_caps({f"full{n}": 0 for n in range(100)})
    specs = [upload(f"{n}", "J", destination=f"full{n}", priority=9, stored=True) for n in range(100)]
    world.planned({"J-1": [*specs, upload("late", "J", priority=9, stored=True)]}, "J", 9)
    world.planned({"K-1": [upload("k", "K", priority=0, stored=True)]}, "K", 0)
    assert "u:k@dst" in world.inbox or world.pump() == ["u:k@dst"]
    assert "u:late@dst" in [step for _ in range(4) for step in world.pump()]


def test_admitted_steps_carry_the_sentence_an_operator_reads(world: World) -> None:
    """Flower shows it in the argument column."""
    world.planned({"J-1": [*stored("J", 1), download("x")], "J-2": []})
    texts = {step.id: step.text for step in world.ledger.pump()}
    assert texts == {
        "u:J0@dst": "upload J0 (100 B) to dst/J",
        "d:t/x": "download x (100 B) from src/J",
        "m:J-2": "publish src/J-2:1 to dst/J-2:1",
    }
