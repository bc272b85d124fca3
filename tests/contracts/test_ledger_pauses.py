"""An operator's pause of a job or of an origin: what it stops, what it leaves alone, how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distworker.state.base import Beat, StepSpec
from distworker.state.ledger import RedisLedger
from tests.contracts.ledger_world import OWNER, SIZE, World, download, expand, plan, publish, upload


def paused(world: World, job: str = "J") -> bool:
    view = world.ledger.job(job)
    assert view is not None
    return view.paused


def stored(job: str, count: int, origin: str = "dst") -> list[StepSpec]:
    return [upload(f"{job}{n}", job, destination=origin, stored=True) for n in range(count)]


def test_a_paused_job_is_admitted_again_when_it_is_resumed(world: World) -> None:
    """Nothing of it starts meanwhile, and nothing of it is lost."""
    world.planned({"J-1": stored("J", 3)})
    world.give_back()
    assert world.ledger.pause_job("J")
    assert paused(world)
    assert world.pump() == []
    assert world.ledger.pause_job("J"), "saying so twice changes nothing"
    assert world.ledger.resume_job("J")
    assert not paused(world)
    assert len(world.run_all()) == 4
    assert world.state() == "done"


def test_only_open_jobs_are_paused(world: World) -> None:
    """The caller hears that there is no such job, or that it is over."""
    assert not world.ledger.pause_job("nobody")
    assert not world.ledger.resume_job("nobody")
    world.planned({"J-1": []})
    world.close("J-1")
    assert not world.ledger.pause_job("J")


def test_what_runs_when_its_job_is_paused_goes_on(world: World) -> None:
    """Its bytes count; what follows from it waits."""
    world.planned({"J-1": [upload("a")]})
    claim = world.take("d:t/a")
    world.ledger.pause_job("J")
    assert world.ledger.beat(OWNER, 4, {}, [Beat(claim.id, claim.token, 5, 10)]) == []
    world.done(claim, counts={"downloaded": SIZE})
    assert world.counters()["downloaded"] == SIZE
    assert world.pump() == []
    world.ledger.resume_job("J")
    assert world.run_all() == ["u:a@dst", "m:J-1"]


def test_a_paused_job_expands_no_more_images(world: World) -> None:
    """Its window stays as it is."""
    world.ledger.open_job("J", {}, expand())
    world.ledger.pause_job("J")
    assert world.pump() == []
    world.ledger.resume_job("J")
    assert world.pump() == ["j:J"]


def test_a_paused_job_leaves_its_place_to_others(world: World) -> None:
    """Its pairs are out of the ring: one look at each, however long the pause."""
    for n in range(100):
        world.ledger.open_job(f"P{n}", {}, expand(f"P{n}"))
        world.ledger.pause_job(f"P{n}")
    world.ledger.open_job("open", {}, expand("open"))
    assert [step for _ in range(3) for step in world.pump()] == ["j:open"]
    for n in range(100):
        world.ledger.resume_job(f"P{n}")
    assert len([step for _ in range(3) for step in world.pump()]) == 100


def test_a_paused_job_can_be_cancelled(world: World) -> None:
    """It closes at once and is no longer paused."""
    world.planned({"J-1": [upload("a")], "J-2": [upload("b")]})
    world.give_back()
    world.ledger.pause_job("J")
    world.pump()
    assert world.ledger.cancel("J")
    assert (world.state(), paused(world)) == ("cancelled", False)


def test_a_shared_step_of_a_paused_job_runs_for_the_other_one(world: World) -> None:
    """K does not wait for J's operator: upload and download change hands, and count for K."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    world.planned({"K-1": [upload("a", "K", "other")]}, "K")
    world.ledger.pause_job("J")
    claim = world.take("d:t/a")
    assert (claim.job, claim.body["source"]["host"]) == ("K", "other")
    world.done(claim)
    assert world.run_all() == ["u:a@dst", "m:K-1"]
    assert (world.state("J"), world.state("K")) == ("running", "done")
    world.ledger.resume_job("J")
    assert world.run_all() == ["m:J-1"]


def test_who_joins_a_step_of_a_paused_job_takes_it_over(world: World) -> None:
    """The pause came first, the other job later."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    world.give_back()
    world.ledger.pause_job("J")
    world.planned({"K-1": [upload("a", "K")]}, "K")
    assert world.take("d:t/a").job == "K"


def test_a_resumed_job_takes_over_what_a_paused_one_holds(world: World) -> None:
    """Both were paused; the first to be resumed needs the layer."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    world.planned({"K-1": [upload("a", "K")]}, "K")
    world.give_back()
    world.ledger.pause_job("J")
    world.ledger.pause_job("K")
    assert world.pump() == []
    world.ledger.resume_job("J")
    assert world.take("d:t/a").job == "J"


def test_the_home_that_was_passed_over_comes_back_with_its_needs(world: World) -> None:
    """K leaves while J is paused: resumed, J downloads before it uploads."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    world.planned({"K-1": [upload("a", "K", "other")]}, "K")
    world.give_back()
    world.ledger.pause_job("J")
    world.ledger.cancel("K")
    assert world.pump() == []
    world.ledger.resume_job("J")
    claim = world.take("d:t/a")
    assert (claim.job, claim.body["source"]["host"]) == ("J", "src")
    world.done(claim)
    assert world.run_all() == ["u:a@dst", "m:J-1"]


def test_a_running_step_of_a_paused_job_is_rerun_for_the_other_one(world: World) -> None:
    """Its worker dies during the pause."""
    world.planned({"J-1": [upload("a", "J", stored=True)]}, "J")
    world.planned({"K-1": [upload("a", "K", stored=True)]}, "K")
    world.take("u:a@dst")
    world.ledger.pause_job("J")
    world.reap_after(world.rules.lease + 1)
    assert world.take("u:a@dst").job == "K"


@pytest.mark.servers
def test_a_pause_whose_caller_died_in_between_is_finished_by_the_reaper(redis_world: World) -> None:
    """The job stands still at once; what it shares is handed over image by image."""
    world = redis_world
    assert isinstance(world.ledger, RedisLedger)
    for job in ("J", "K"):
        world.planned({f"{job}-{n}": [upload(f"{n}", job, stored=True)] for n in range(300)}, job)
    world.give_back()
    assert world.ledger.redis.run("pause", "job", "J") == 1
    world.reap_after(60)
    admitted = world.pump(1000)
    assert len(admitted) == 300
    assert world.claim(admitted[-1]).job == "K"


def test_a_paused_origin_blocks_itself_and_nothing_else(world: World) -> None:
    """Uploads, plans and publishes of it wait, until it is resumed: there is no end by itself."""
    world.planned({"J-1": [*stored("J", 2), *stored("O", 1, "other")], "J-2": []})
    world.give_back()
    world.ledger.pause_origin("dst")
    assert world.ledger.paused_origins() == ["dst"]
    assert world.pump() == ["u:O0@other"]
    world.reap_after(60)
    assert set(world.pump()) <= {"u:O0@other"}
    assert world.ledger.resume_origin("dst")
    assert not world.ledger.resume_origin("dst"), "there is no pause any more"
    assert world.ledger.paused_origins() == []
    assert {"m:J-2", "u:J0@dst", "u:J1@dst"} <= set(world.pump())


def images_for(origin: str, *images: str) -> tuple[StepSpec, ...]:
    """New images for that destination; their plans need no origin."""
    return tuple(
        replace(spec, origin=origin if spec.id.startswith("m:") else "")
        for image in images
        for spec in (plan(image), publish(image))
    )


def test_a_paused_destination_leaves_its_job_s_window_to_the_others(world: World) -> None:
    """Its images stay open; those for another destination are expanded as if they were not there."""
    world.ledger.open_job("J", {}, expand(window=2))
    world.finish("j:J", spawn=images_for("dst", "J-1", "J-2"), total=6, cursor=2)
    world.run_all_but("m")
    assert world.pump() == []
    world.ledger.pause_origin("dst")
    world.finish("j:J", spawn=images_for("two", "J-3", "J-4"), total=6, cursor=4)
    world.run_all_but("m")
    assert {"m:J-3", "m:J-4"} <= set(world.inbox)
    world.done(world.claim("m:J-3"))
    assert world.pump() == ["j:J"]


def test_paused_destinations_do_not_open_a_whole_job(world: World) -> None:
    """The images that stand still are bounded as well."""
    world.ledger.pause_origin("dst")
    world.ledger.open_job("J", {}, expand(window=1))
    count = 0
    while "j:J" in world.pump() or "j:J" in world.inbox:
        count += 1
        world.done(world.claim("j:J"), spawn=images_for("dst", f"J-{count}"), total=99, cursor=count)
        world.run_all_but("mj")
    assert count == world.rules.spread + 1


def test_no_tee_into_an_origin_that_an_operator_paused(world: World) -> None:
    """The download goes into the store alone."""
    world.planned({"J-1": [upload("a")]})
    world.ledger.pause_origin("dst")
    assert world.take("d:t/a").tee is None


def test_a_job_and_its_origin_may_both_be_paused(world: World) -> None:
    """Both have to be resumed, in any order."""
    for first, second in (("job", "origin"), ("origin", "job")):
        job = f"J{first}"
        world.planned({f"{job}-1": stored(job, 2)}, job)
        world.give_back()
        for what in (first, second):
            world.ledger.pause_job(job) if what == "job" else world.ledger.pause_origin("dst")
            assert world.pump() == []
        world.ledger.resume_job(job)
        assert world.pump() == []
        world.ledger.resume_origin("dst")
        assert len(world.pump()) == 2
        world.ledger.cancel(job)
        world.inbox.clear()


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_parked_pairs_go_with_their_last_step(world: World, end: str) -> None:
    """Resuming finds nothing that would not be there."""
    world.planned({"J-1": [upload("a", "J"), download("b")]}, "J")
    claim = world.take("d:t/b")
    world.give_back()
    world.ledger.pause_job("J")
    world.pump()
    world.ledger.cancel("J") if end == "cancel" else world.fail(claim)
    world.ledger.resume_job("J")
    assert world.pump() == []
