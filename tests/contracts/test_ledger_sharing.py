"""Steps that several images want: made once, run one subscriber's way, re-homed when that one leaves."""

from __future__ import annotations

from dataclasses import replace

from distworker.state.base import Beat, Closing, StepSpec
from tests.contracts.ledger_world import OWNER, SIZE, World, download, plan, publish, upload


def two_jobs(world: World, source: str = "src", priority: int = 5) -> None:
    """Job J (home) and job K want the same layer at the same destination; K reads it from `source`."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    world.planned({"K-1": [upload("a", "K", source, priority=priority)]}, "K")


def test_two_jobs_that_share_a_layer_move_it_once(world: World) -> None:
    """One download, one upload, both images published."""
    two_jobs(world)
    assert sorted(world.run_all()) == ["d:t/a", "m:J-1", "m:K-1", "u:a@dst"]
    assert (world.state("J"), world.state("K")) == ("done", "done")


def test_joining_a_shared_step_is_counted_as_saved_once(world: World) -> None:
    """When it is done, the joining job saved the blob's bytes; the need below it is not counted again."""
    two_jobs(world)
    assert world.counters("K")["saved_shared"] == 0
    world.run_all()
    assert world.counters("J")["saved_shared"] == 0
    assert world.counters("K")["saved_shared"] == SIZE


def test_who_inherits_a_shared_step_has_shared_nothing(world: World) -> None:
    """Its home left, so the one who waited pays for it."""
    two_jobs(world)
    world.ledger.cancel("J")
    world.run_all()
    assert world.counters("K")["saved_shared"] == 0


def test_bytes_that_are_counted_already_are_not_shared_again(world: World) -> None:
    """A second way to a blob, after the first one that was counted did not lead there."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    step = upload("a", "K")
    world.planned({"K-1": [replace(step, body={**step.body, "counted": True})]}, "K")
    world.run_all()
    assert world.counters("K")["saved_shared"] == 0


def test_two_destinations_of_one_layer_share_its_download(world: World) -> None:
    """One reading of the source feeds both uploads from the store."""
    world.planned({"J-1": [upload("a", destination="one"), upload("a", destination="two")]})
    claim = world.take("d:t/a")
    assert claim.tee is None, "two destinations wait: the store comes first"
    world.done(claim)
    assert sorted(world.pump()) == ["u:a@one", "u:a@two"]


def test_a_shared_step_counts_for_its_home_job_only(world: World) -> None:
    """Bytes are counted once in all."""
    two_jobs(world)
    world.finish("d:t/a", counts={"downloaded": SIZE})
    assert world.counters("J")["downloaded"] == SIZE
    assert world.counters("K")["downloaded"] == 0


def test_a_failure_reaches_exactly_those_who_wanted_it_that_way(world: World) -> None:
    """The source of J fails; K has a source of its own and goes on with it."""
    two_jobs(world, source="other")
    assert world.fail(world.take("d:t/a")) == "failed"
    assert world.outcomes("J")["J-1"]["state"] == "failed"
    assert world.state("J") == "failed"
    claim = world.take("d:t/a")
    assert claim.body["source"]["host"] == "other"
    assert claim.attempt == 1
    world.done(claim)
    world.run_all()
    assert world.state("K") == "done"


def test_a_failure_reaches_all_who_share_the_way(world: World) -> None:
    """Same source, same fate: it is not tried five times for each image."""
    two_jobs(world)
    world.fail(world.take("d:t/a"))
    assert (world.state("J"), world.state("K")) == ("failed", "failed")
    assert world.pump() == []


def test_a_failing_upload_fails_images_of_the_same_way_and_no_other(world: World) -> None:
    """The destination refuses J's credential; K's upload has another."""
    world.planned({"J-1": [upload("a", "J", stored=True)]}, "J")
    mine = replace(upload("a", "K", stored=True), credential="k", via="registry:src->dst#k")
    world.planned({"K-1": [mine]}, "K")
    world.fail(world.take("u:a@dst"))
    assert world.state("J") == "failed"
    world.done(world.take("u:a@dst"))
    world.run_all()
    assert world.state("K") == "done"


def test_other_images_of_the_job_are_not_touched_by_a_failure(world: World) -> None:
    """One bad layer costs the images that need it."""
    world.planned({"J-1": [upload("a")], "J-2": [upload("b")]})
    world.fail(world.take("d:t/a"))
    world.run_all()
    assert {image: o["state"] for image, o in world.outcomes().items()} == {"J-1": "failed", "J-2": "done"}
    assert world.state() == "failed"


def test_a_late_subscriber_starts_a_new_round_with_its_own_source(world: World) -> None:
    """A failed step leaves no trace that could stop the next job."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    world.fail(world.take("d:t/a"))
    world.planned({"K-1": [upload("a", "K", "other")]}, "K")
    claim = world.take("d:t/a")
    assert (claim.job, claim.attempt) == ("K", 1)


def test_a_failing_plan_closes_its_image(world: World) -> None:
    """A missing tag ends the image before any layer."""
    world.open(["J-1", "J-2"])
    world.fail(world.take("p:J-1"))
    assert world.outcomes()["J-1"]["error"]["code"] == "unavailable"
    assert world.counters()["open"] == 1


def test_cancel_re_homes_what_others_want(world: World) -> None:
    """K goes on with its own source as soon as J leaves."""
    two_jobs(world, source="other")
    assert world.ledger.cancel("J")
    claim = world.take("d:t/a")
    assert (claim.job, claim.body["source"]["host"]) == ("K", "other")


def test_the_best_remaining_subscriber_becomes_home(world: World) -> None:
    """Highest priority first, then the oldest."""
    world.planned({"J-1": [upload("a", "J", stored=True)]}, "J")
    for job, priority in (("K", 5), ("L", 8), ("M", 8)):
        world.planned({f"{job}-1": [upload("a", job, stored=True, priority=priority)]}, job, priority)
    world.ledger.cancel("J")
    assert world.take("u:a@dst").job == "L"


def test_a_running_shared_step_goes_on_when_its_home_leaves(world: World) -> None:
    """The bytes on their way are not thrown away; they now count for the one who still wants them."""
    two_jobs(world)
    claim = world.take("d:t/a")
    world.ledger.cancel("J")
    assert world.ledger.beat(OWNER, 4, {}, [Beat(claim.id, claim.token)]) == []
    view = world.ledger.job("K")
    assert view is not None
    assert list(view.running) == ["d:t/a"]
    world.done(claim, counts={"downloaded": SIZE})
    assert world.counters("K")["downloaded"] == SIZE
    world.run_all()
    assert world.state("K") == "done"


def test_a_failure_of_a_way_whose_owner_left_hurts_nobody(world: World) -> None:
    """The run was J's way; K, whose step it became meanwhile, starts afresh its own way."""
    two_jobs(world, source="other")
    claim = world.take("d:t/a")
    world.ledger.cancel("J")
    assert world.fail(claim) == "failed"
    again = world.take("d:t/a")
    assert (again.job, again.attempt, again.body["source"]["host"]) == ("K", 1, "other")


def test_a_step_running_for_nobody_hears_of_it_at_its_next_beat(world: World) -> None:
    """Cancel reaches a running download within one heartbeat and frees its slot."""
    world.ledger.set_caps({"src": 1})
    world.planned({"J-1": [upload("a", "J")]}, "J")
    claim = world.take("d:t/a")
    world.ledger.cancel("J")
    assert world.ledger.beat(OWNER, 4, {}, [Beat(claim.id, claim.token)]) == ["d:t/a"]
    world.planned({"K-1": [upload("b", "K")]}, "K")
    assert world.pump() == ["d:t/b"]


def test_a_step_wanted_again_before_its_worker_heard_goes_on(world: World) -> None:
    """Leaving and coming back between two beats costs nothing."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    claim = world.take("d:t/a")
    world.ledger.cancel("J")
    world.planned({"K-1": [upload("a", "K")]}, "K")
    assert world.ledger.beat(OWNER, 4, {}, [Beat(claim.id, claim.token)]) == []
    world.done(claim)
    world.run_all()
    assert world.state("K") == "done"


def test_a_queued_step_that_nobody_wants_is_refused_as_cancelled(world: World) -> None:
    """Its message is already on the way."""
    world.planned({"J-1": [upload("a")]})
    world.pump()
    world.ledger.cancel("J")
    assert world.refused("d:t/a") == "cancelled"
    assert world.refused("d:t/a") == "unknown"


def test_fail_and_release_of_a_cancelled_step_drop_it(world: World) -> None:
    """Nothing is retried for nobody."""
    world.planned({"J-1": [upload("a"), upload("b")]})
    first, second = world.take("d:t/a"), world.take("d:t/b")
    world.ledger.cancel("J")
    assert world.fail(first, retry=True) == "lost"
    assert world.ledger.release(second.id, second.token)
    assert world.pump() == []
    assert world.refused("d:t/a") == "unknown"
    assert world.refused("d:t/b") == "unknown"


def test_an_image_that_ends_early_takes_its_wishes_along(world: World) -> None:
    """Needs nobody else wants go with it, down to the downloads."""
    world.planned({"J-1": [upload("a"), upload("b")], "J-2": [upload("b")]})
    world.fail(world.take("d:t/a"))
    assert world.run_all() == ["d:t/b", "u:b@dst", "m:J-2"]


def test_a_tee_is_offered_when_exactly_one_upload_waits(world: World) -> None:
    """The same pass may feed the destination."""
    world.planned({"J-1": [upload("a")]})
    tee = world.take("d:t/a").tee
    assert tee is not None
    assert (tee[0], tee[1]["destination"]["host"]) == ("u:a@dst", "dst")


def test_a_tee_takes_the_destination_s_slot_and_frees_it(world: World) -> None:
    """A cap counts sessions at the destination, whoever opened them."""
    world.ledger.set_caps({"dst": 1})
    world.planned({"J-1": [upload("a"), upload("b")]})
    first = world.take("d:t/a")
    second = world.claim("d:t/b")
    assert first.tee is not None
    assert second.tee is None, "the only slot is taken"
    world.done(second)
    assert world.pump() == []
    world.done(first)
    assert len(world.pump()) == 1


def test_no_tee_into_a_paused_destination(world: World) -> None:
    """A 429 of the destination holds for the tee as well."""
    world.planned({"J-1": [upload("x", stored=True), upload("a")]})
    claim = world.take("u:x@dst")
    world.ledger.release(claim.id, claim.token, delay=60, pause="kind")
    assert world.claim("d:t/a").tee is None


def test_a_tee_that_worked_finishes_the_upload_in_the_same_script(world: World) -> None:
    """As if the upload's own done had run: counted, delivered, its waiters ready."""
    world.planned({"J-1": [upload("a")]})
    world.finish("d:t/a", delivered={"teed": ["u:a@dst", "team/app"]}, counts={"downloaded": SIZE})
    assert world.refused("u:a@dst") == "unknown"
    claim = world.take("m:J-1")
    assert claim.delivered["u:a@dst"] == {"repository": "team/app", "credential": ""}
    counters = world.counters()
    assert (counters["uploaded"], counters["layers"], counters["downloaded"]) == (SIZE, 1, SIZE)


def test_a_tee_that_was_cut_leaves_the_upload_to_be_sent_from_the_store(world: World) -> None:
    """Staging is the fallback, never a loss."""
    world.planned({"J-1": [upload("a")]})
    world.finish("d:t/a")
    assert world.run_all() == ["u:a@dst", "m:J-1"]


def test_a_tee_into_an_upload_that_was_cancelled_meanwhile_is_ignored(world: World) -> None:
    """Another destination still waits for the download."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    claim = world.take("d:t/a")
    world.planned({"K-1": [upload("a", "K", destination="two")]}, "K")
    world.ledger.cancel("J")
    world.done(claim, delivered={"teed": ["u:a@dst", "team/app"]})
    assert world.run_all() == ["u:a@two", "m:K-1"]


def test_a_pull_waits_for_downloads_directly(world: World) -> None:
    """Registry to store: the image's barrier holds the downloads; their failure closes it."""
    world.planned({"J-1": [download("a")], "J-2": [download("b")]})
    claim = world.take("d:t/a")
    assert claim.tee is None
    world.done(claim)
    world.fail(world.claim("d:t/b"))
    world.run_all()
    assert {image: o["state"] for image, o in world.outcomes().items()} == {"J-1": "done", "J-2": "failed"}


def test_a_new_home_with_another_need_gets_that_need(world: World) -> None:
    """Downloads are per tenant: the upload's next home reads its own."""
    world.planned({"J-1": [upload("a", "J")]}, "J")
    other = StepSpec("d:t2/a", "K", {"digest": "a", "size": SIZE}, origin="src", via="registry:src")
    world.planned({"K-1": [replace(upload("a", "K"), needs=(other,))]}, "K")
    world.ledger.cancel("J")
    assert world.run_all() == ["d:t2/a", "u:a@dst", "m:K-1"]


def test_an_image_may_wait_for_another_image(world: World) -> None:
    """A referrer is published after its subject, and fails with it."""
    specs = (plan("J-1"), publish("J-1"), plan("J-2"), replace(publish("J-2"), needs=(publish("J-1"),)))
    world.ledger.open_job("J", {}, StepSpec("j:J", "J", {}))
    world.finish("j:J", spawn=specs, total=2, cursor=2)
    world.run_all()
    assert [o["image"] for o in world.ledger.outcomes("J")] == ["J-1", "J-2"]
    specs = tuple(replace(s, id=s.id.replace("J", "K"), job="K", needs=()) for s in specs[:2])
    waits = replace(publish("K-2", "K"), needs=(specs[1],))
    world.ledger.open_job("K", {}, StepSpec("j:K", "K", {}))
    world.finish("j:K", spawn=(*specs, waits), total=2, cursor=2)
    world.pump()
    world.fail(world.claim("m:K-1"))
    assert {o["state"] for o in world.ledger.outcomes("K")} == {"failed"}
    assert world.state("K") == "failed"


def test_an_unchanged_image_closes_from_its_plan(world: World) -> None:
    """HEAD on both sides agreed: nothing else of it ever runs."""
    world.open(["J-1"])
    world.finish("p:J-1", closing=Closing("J-1", "unchanged", {"digest": "sha256:1"}))
    assert world.outcomes() == {"J-1": {"image": "J-1", "state": "unchanged", "digest": "sha256:1"}}
    assert world.state() == "done"
    assert world.pump() == []
