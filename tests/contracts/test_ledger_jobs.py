"""Jobs: opened, expanded window by window, counted, cancelled, closed, and what is left behind."""

from __future__ import annotations

from threading import Thread

import pytest

from distworker.state.base import Change, Claim, Closing, StepSpec
from distworker.state.keys import STANDING, TABLE
from distworker.state.ledger import RedisLedger
from tests.contracts.ledger_world import World, expand, plan, publish, upload


def test_a_job_is_opened_once(world: World) -> None:
    """The same submission delivered twice is one job."""
    assert world.ledger.open_job("J", {"kind": "copy"}, expand())
    assert not world.ledger.open_job("J", {"kind": "other"}, expand())
    view = world.ledger.job("J")
    assert view is not None
    assert (view.state, view.record, view.error, view.closed) == ("running", {"kind": "copy"}, None, None)
    assert world.pump() == ["j:J"]


def test_a_job_may_be_opened_held(world: World) -> None:
    """Nothing of it is admitted, not for an instant, until it is resumed."""
    assert world.ledger.open_job("J", {}, expand(), paused=True)
    view = world.ledger.job("J")
    assert view is not None
    assert (view.paused, world.pump()) == (True, [])
    assert world.ledger.resume_job("J")
    assert world.pump() == ["j:J"]


def test_an_unknown_job_has_no_view(world: World) -> None:
    """Asking is never an error."""
    assert world.ledger.job("nope") is None
    assert list(world.ledger.outcomes("nope")) == []
    assert not world.ledger.cancel("nope")


def test_jobs_are_listed_newest_first(world: World) -> None:
    """As `status` shows them."""
    for job in ("A", "B", "C"):
        world.ledger.open_job(job, {}, expand(job))
        world.advance(1)
    assert [view.id for view in world.ledger.jobs(2)] == ["C", "B"]


def test_a_job_without_images_closes_at_once(world: World) -> None:
    """All tags of an empty repository."""
    world.ledger.open_job("J", {}, expand())
    world.finish("j:J", total=0, cursor=0)
    assert world.state() == "done"


def test_a_job_is_expanded_window_by_window(world: World) -> None:
    """The next window opens when half of the last one is closed, and expand is told where it stands."""
    world.ledger.open_job("J", {}, expand(window=4))
    world.finish("j:J", spawn=tuple(plan_and_publish(1, 5)), total=6, cursor=4)
    close(world, "J-1")
    assert "j:J" not in world.pump()
    close(world, "J-2")
    claim = world.take("j:J")
    assert (claim.body["cursor"], claim.body["total"], claim.body["window"]) == (4, 6, 4)
    world.done(claim, spawn=tuple(plan_and_publish(5, 7)), total=6, cursor=6)
    world.run_all()
    counters = world.counters()
    assert (counters["total"], counters["done"], counters["unchanged"], counters["open"]) == (6, 4, 2, 0)
    assert world.state() == "done"


def plan_and_publish(first: int, end: int) -> list[StepSpec]:
    return [spec for n in range(first, end) for spec in (plan(f"J-{n}"), publish(f"J-{n}"))]


def close(world: World, image: str) -> None:
    """The image turns out to be unchanged; other plans stay queued."""
    world.pump()
    world.done(world.claim(f"p:{image}"), closing=Closing(image, "unchanged", {}))


def test_an_expand_step_that_spawned_little_goes_on_at_once(world: World) -> None:
    """Room is re-evaluated when expand ends."""
    world.ledger.open_job("J", {}, expand(window=4))
    world.finish("j:J", spawn=tuple(plan_and_publish(1, 3)), total=3, cursor=2)
    assert "j:J" in world.pump()


def test_a_patch_of_the_expand_step_is_there_when_it_runs_again(world: World) -> None:
    """It may note where it stands in the frozen list."""
    world.ledger.open_job("J", {}, expand(window=4))
    world.finish("j:J", patch=(("j:J", {"shard": 1}),), total=9, cursor=1)
    assert world.take("j:J").body["shard"] == 1


def test_an_expand_step_that_names_no_total_fails_the_job(world: World) -> None:
    """A job is never "done" with images nobody looked at."""
    world.ledger.open_job("J", {}, expand())
    world.finish("j:J")
    view = world.ledger.job("J")
    assert view is not None
    assert (view.state, (view.error or {})["code"]) == ("failed", "internal")


def test_a_failing_expand_closes_the_job_with_its_error(world: World) -> None:
    """The frozen list cannot be read: one typed error on the job."""
    world.ledger.open_job("J", {}, expand())
    world.fail(world.take("j:J"))
    view = world.ledger.job("J")
    assert view is not None
    assert (view.state, view.error) == ("failed", {"code": "unavailable", "message": "no answer"})
    assert view.closed is not None


def test_images_that_are_open_when_expand_fails_still_finish(world: World) -> None:
    """The job closes as failed after them."""
    world.ledger.open_job("J", {}, expand(window=4))
    world.finish("j:J", spawn=tuple(plan_and_publish(1, 3)), total=4, cursor=2)
    world.fail(world.take("j:J"))
    assert world.state() == "running"
    world.run_all()
    assert world.state() == "failed"
    assert world.counters()["done"] == 2


def test_an_image_closes_once(world: World) -> None:
    """A late duplicate neither adds an outcome nor a count."""
    world.planned({"J-1": [], "J-2": []})
    claim = world.take("m:J-1")
    change = Change(closing=Closing("J-1", "done", {}), counts={"layers": 1})
    assert world.ledger.done(claim.id, claim.token, change)
    assert world.ledger.done(claim.id, claim.token, change)
    other = world.claim("m:J-2")
    assert world.ledger.done(other.id, other.token, Change(closing=Closing("J-1", "done", {})))
    assert [o["image"] for o in world.ledger.outcomes("J")] == ["J-1"]
    assert world.counters()["layers"] == 1


def test_a_publish_that_names_no_closing_closes_its_image_as_done(world: World) -> None:
    """An image is never left open by its own publish."""
    world.planned({"J-1": []})
    world.finish("m:J-1")
    assert world.outcomes()["J-1"] == {"image": "J-1", "state": "done"}


def test_outcomes_are_paged_in_the_order_of_closing(world: World) -> None:
    """The report reads them in parts."""
    world.planned({f"J-{n}": [] for n in range(1, 6)})
    world.pump()
    for n in (3, 1, 2, 5, 4):
        world.done(world.claim(f"m:J-{n}"))
    assert [o["image"] for o in world.ledger.outcomes("J", 1, 3)] == ["J-1", "J-2", "J-5"]


def test_cancel_closes_every_open_image_and_the_job(world: World) -> None:
    """Also a job with more images than one script call handles; saying it twice is harmless."""
    images = [f"J-{n}" for n in range(world.rules.batch + 50)]
    world.open(images)
    assert world.ledger.cancel("J")
    assert not world.ledger.cancel("J"), "it is closed now"
    assert world.state() == "cancelled"
    assert world.counters()["cancelled"] == len(images)
    assert world.outcomes()["J-0"] == {
        "image": "J-0",
        "state": "cancelled",
        "source": "src/J-0:1",
        "destination": "dst/J-0:1",
    }
    assert world.pump() == []


def test_cancel_before_expansion_closes_the_job(world: World) -> None:
    """The expand step goes with it, even when it is running: its result is not wanted."""
    world.ledger.open_job("J", {}, expand())
    claim = world.take("j:J")
    assert world.ledger.cancel("J")
    assert world.state() == "cancelled"
    assert not world.ledger.done(claim.id, claim.token, Change(spawn=(plan("J-1"),), total=1, cursor=1))
    assert world.pump() == []


def test_a_plan_that_ends_after_its_job_was_cancelled_creates_nothing(world: World) -> None:
    """Late results are fenced out."""
    world.open(["J-1"])
    claim = world.take("p:J-1")
    world.ledger.cancel("J")
    change = Change(wait=(("m:J-1", (upload("a"),)),))
    assert not world.ledger.done(claim.id, claim.token, change)
    assert world.pump() == []


def test_workers_that_race_do_every_step_exactly_once(world: World) -> None:
    """Four workers, every message delivered to all of them at once."""
    world.planned({f"J-{n}": [upload(f"{k}") for k in (n, n + 1)] for n in range(1, 6)})
    world.give_back()
    done: list[str] = []

    def work(owner: str) -> None:
        while world.state() == "running":
            sent.extend(step.id for step in world.ledger.pump())
            for step in set(sent):
                claim = world.ledger.claim(step, f"{owner}/{step}", owner)
                if isinstance(claim, Claim) and world.ledger.done(step, claim.token, Change()):
                    done.append(step)

    sent: list[str] = []
    threads = [Thread(target=work, args=(f"worker-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(set(done))
    assert len(done) == 6 + 6 + 5


@pytest.mark.servers
def test_a_cancel_whose_caller_died_in_between_is_finished_by_the_reaper(redis_world: World) -> None:
    """A large job is cancelled in several calls; whoever makes them may be killed after the first."""
    world = redis_world
    assert isinstance(world.ledger, RedisLedger)
    images = [f"J-{n}" for n in range(2 * world.rules.batch + 50)]
    world.open(images, "J")
    world.open(["K-1"], "K")
    assert world.ledger.redis.run("cancel", "J") == world.rules.batch + 50
    assert world.state("J") == "cancelling"
    world.reap_after(10)
    assert (world.state("J"), world.counters("J")["cancelled"]) == ("cancelled", len(images))
    assert world.state("K") == "running"


def test_a_cancelled_job_leaves_others_alone(world: World) -> None:
    """Only its own images close."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    world.planned({"K-1": [upload("b", "K")]}, "K")
    world.ledger.cancel("J")
    world.run_all()
    assert world.state("K") == "done"


def test_a_closed_job_waits_until_its_report_is_kept(world: World) -> None:
    """However it closed; the first to close is the first to be kept, and saying so twice is no error."""
    for job in ("B", "A", "C"):
        world.ledger.open_job(job, {}, expand(job))
        world.advance(1)
    world.finish("j:B", total=0, cursor=0)
    world.advance(1)
    world.ledger.cancel("A")
    assert list(world.ledger.unreported()) == ["B", "A"]
    assert list(world.ledger.unreported(1)) == ["B"]
    for _ in range(2):
        world.ledger.reported("B")
    assert list(world.ledger.unreported()) == ["A"]


def test_a_closed_job_is_forgotten_in_the_end(memory_world: World) -> None:
    """Records of a closed job live for a week (the server does this by TTL, see below)."""
    world = memory_world
    world.planned({"J-1": []})
    world.close("J-1")
    world.advance(world.rules.keep + 1)
    assert world.ledger.job("J") is None


def leftovers(ledger: RedisLedger) -> list[str]:
    """Keys without a TTL that do not belong to the installation."""
    redis = ledger.redis
    standing = {redis.key(name) for name in STANDING}
    keys = {str(key) for key in redis.client.scan_iter(redis.key("step")[: -len(TABLE["step"])] + "*")}
    return sorted(key for key in keys - standing if redis.client.ttl(key) < 0)


@pytest.mark.servers
def test_nothing_without_a_ttl_is_left_behind_by_a_closed_job(redis_world: World) -> None:
    """Done, failed, blocked, teed, cancelled: afterwards only records that expire remain."""
    world = redis_world
    assert isinstance(world.ledger, RedisLedger)
    world.ledger.set_caps({"src": 2, "dst": 2})
    world.planned(
        {"J-1": [upload("a"), upload("b")], "J-2": [upload("b"), upload("c")], "J-3": [upload("d")]}
    )
    assert leftovers(world.ledger), "the scan sees live records"
    claim = world.take("d:t/a")
    world.done(claim, delivered={"teed": ["u:a@dst", "J"]}, hints=(("dst", "", "a", "J"),))
    world.fail(world.take("d:t/b"))
    assert world.run_all()[-1] == "m:J-3"
    assert world.state() == "failed"
    world.planned({"K-1": [upload("e", "K")], "K-2": [upload("f", "K", "paused")]}, "K")
    running = world.take("d:t/e")
    held = world.claim("d:t/f")
    world.ledger.release(held.id, held.token, delay=30, pause="origin")
    world.ledger.cancel("K")
    world.fail(running, retry=True)
    world.ledger.lane_begin("dst/app:1", "K-1")
    assert leftovers(world.ledger) == []


@pytest.mark.servers
def test_the_list_of_jobs_stays_while_one_is_open(redis_world: World) -> None:
    """Its TTL runs only while no job is open."""
    world = redis_world
    assert isinstance(world.ledger, RedisLedger)
    client, key = world.ledger.redis.client, world.ledger.redis.key("jobs")
    world.planned({"J-1": []})
    world.close("J-1")
    assert client.ttl(key) > 0
    world.ledger.open_job("K", {}, expand("K"))
    assert client.ttl(key) == -1
