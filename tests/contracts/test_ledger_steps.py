"""One step's life: queued, claimed, beaten, given back, retried, lost, reaped."""

from __future__ import annotations

import pytest

from distworker.state.base import Beat, Change, Claim, StepSpec
from tests.contracts.ledger_world import OWNER, World, download, expand, plan, publish, upload


def one_upload(world: World) -> Claim:
    """An image whose only layer is in the store already; its upload is claimed."""
    world.planned({"J-1": [upload("a", stored=True)]})
    return world.take("u:a@dst")


def test_a_step_can_only_be_claimed_once_it_was_admitted(world: World) -> None:
    """A message for a step that is merely ready is stale."""
    world.ledger.open_job("J", {}, expand())
    assert world.refused("j:J") == "superseded"
    world.pump()
    assert world.claim("j:J").body["window"] == 200


def test_an_unknown_step_is_refused(world: World) -> None:
    """A step that was finished long ago, or never was."""
    assert world.refused("u:nothing@here") == "unknown"


def test_the_second_of_two_messages_for_a_step_is_superseded(world: World) -> None:
    """Celery may deliver a message twice."""
    one_upload(world)
    assert world.refused("u:a@dst") == "superseded"


def test_claiming_again_with_the_same_token_answers_the_same(world: World) -> None:
    """The first reply may have been lost."""
    claim = one_upload(world)
    assert world.ledger.claim(claim.id, claim.token, OWNER) == claim


def test_a_record_of_a_newer_version_is_left_for_others(world: World) -> None:
    """Old and new workers run side by side; an old one does not touch what it cannot read."""
    world.ledger.open_job("J", {}, StepSpec("j:J", "J", {"v": 2}))
    world.pump()
    assert world.refused("j:J") == "newer"
    assert world.refused("j:J") == "newer", "it is still queued"
    assert world.reap_after(world.rules.newer) == 1, "that used its message up"
    assert world.pump() == ["j:J"]


def test_a_step_is_known_until_it_is_over(world: World) -> None:
    """Whoever lost it asks whether anybody still wants it."""
    claim = one_upload(world)
    assert world.ledger.known(claim.id)
    world.done(claim)
    assert not world.ledger.known(claim.id)


def test_done_makes_the_waiter_ready_in_the_same_instant(world: World) -> None:
    """No gap between the last layer and the publish in which anything could be lost."""
    claim = one_upload(world)
    assert "m:J-1" not in world.pump()
    world.done(claim)
    assert world.pump() == ["m:J-1"]


def test_done_hands_on_what_was_delivered(world: World) -> None:
    """Publish hears from each need where its blob is now."""
    world.done(one_upload(world), delivered={"repository": "team/app", "credential": "c"})
    assert world.take("m:J-1").delivered == {
        "p:J-1": {},
        "u:a@dst": {"repository": "team/app", "credential": "c"},
    }


def test_done_twice_with_the_same_token_succeeds_and_counts_once(world: World) -> None:
    """The reply to the first may have been lost."""
    claim = one_upload(world)
    change = Change(counts={"uploaded": 7, "layers": 1})
    assert world.ledger.done(claim.id, claim.token, change)
    assert world.ledger.done(claim.id, claim.token, change)
    assert world.counters()["uploaded"] == 7


@pytest.mark.parametrize("token", ["", "somebody-else"])
def test_a_foreign_token_changes_nothing(world: World, token: str) -> None:
    """Every operation is fenced."""
    one_upload(world)
    ledger = world.ledger
    assert not ledger.done("u:a@dst", token, Change(counts={"layers": 1}))
    assert not ledger.block("u:a@dst", token, [download("a")])
    assert not ledger.release("u:a@dst", token)
    assert ledger.fail("u:a@dst", token, {}, True, 0) == "lost"
    assert ledger.beat(OWNER, 4, {}, [Beat("u:a@dst", token)]) == ["u:a@dst"]
    assert world.counters()["layers"] == 0
    assert world.refused("u:a@dst") == "superseded", "still run by its owner"


def test_a_beaten_step_keeps_its_lease_and_a_silent_one_loses_it(world: World) -> None:
    """One batched call extends the leases of all steps named in it, and of no other."""
    world.planned({"J-1": [upload("a", stored=True), upload("b", stored=True)]})
    alive, silent = world.take("u:a@dst"), world.take("u:b@dst")
    for _ in range(5):
        world.advance(4)
        world.ledger.beat(OWNER, 4, {}, [Beat(alive.id, alive.token, 10, 100)])
        world.ledger.reap(OWNER)
    assert world.pump() == [silent.id]
    world.done(alive)


def test_progress_is_absolute_and_shown_with_the_job(world: World) -> None:
    """`status` shows bytes, worker and sentence of each running step."""
    claim = one_upload(world)
    for moved in (10, 60):
        world.ledger.beat(OWNER, 4, {}, [Beat(claim.id, claim.token, moved, 100)])
    view = world.ledger.job("J")
    assert view is not None
    assert view.running == {
        "u:a@dst": {"moved": 60, "size": 100, "worker": OWNER, "text": "upload a (100 B) to dst/J"}
    }


def test_the_token_of_a_dead_worker_is_void_once_its_step_was_reaped(world: World) -> None:
    """A worker that was frozen for three leases wakes up and finds that it lost."""
    late = one_upload(world)
    assert world.reap_after(world.rules.lease + 1) == 1
    second = world.take("u:a@dst")
    assert second.attempt == 2, "a run that died with its worker is charged"
    assert not world.ledger.done(late.id, late.token, Change(counts={"layers": 1}))
    assert world.ledger.beat(OWNER, 4, {}, [Beat(late.id, late.token)]) == [late.id]
    world.done(second, counts={"layers": 1})
    assert world.counters()["layers"] == 1


def test_done_is_accepted_after_the_lease_as_long_as_nobody_else_has_the_step(world: World) -> None:
    """Finished work is not thrown away because a beat was late."""
    claim = one_upload(world)
    world.advance(world.rules.lease + 1)
    world.done(claim)
    assert world.pump() == ["m:J-1"]


def test_a_step_that_kills_its_workers_ends_as_a_failure(world: World) -> None:
    """Poison steps end."""
    one_upload(world)
    for _ in range(world.rules.attempts - 1):
        world.reap_after(world.rules.lease + 1)
        world.take("u:a@dst")
    world.reap_after(world.rules.lease + 1)
    assert world.outcomes()["J-1"]["error"]["code"] == "worker_lost"
    assert world.state() == "failed"


def test_a_lost_message_is_sent_again_with_a_deadline_that_doubles(world: World) -> None:
    """A broken broker delays work, it never loses it; a dead fleet does not flood the broker."""
    world.ledger.open_job("J", {}, expand())
    assert world.pump() == ["j:J"]
    assert world.reap_after(world.rules.resend) == 1
    assert world.pump() == ["j:J"]
    assert world.reap_after(world.rules.resend * 1.5) == 0
    assert world.reap_after(world.rules.resend * 0.6) == 1
    assert world.pump() == ["j:J"]
    assert world.claim("j:J").attempt == 1, "messages are not attempts"


def test_only_one_reaper_is_elected_each_second(world: World) -> None:
    """Every worker asks; one does the work."""
    world.ledger.open_job("J", {}, expand())
    world.pump()
    world.ledger.reap("worker-2")
    world.advance(world.rules.resend)
    world.ledger.reap("worker-2")
    world.pump()
    world.advance(0.5)
    assert world.ledger.reap("worker-3") == 0


def test_after_a_gap_the_reaper_first_grants_a_lease_to_everything_running(world: World) -> None:
    """After an outage of the server every lease looks expired, through nobody's fault."""
    claim = one_upload(world)
    world.ledger.reap(OWNER)
    world.advance(60)
    assert world.ledger.reap(OWNER) == 0
    assert world.ledger.beat(OWNER, 4, {}, [Beat(claim.id, claim.token)]) == []
    assert world.reap_after(world.rules.lease + 1) == 1, "a worker that really died is found a lease later"


def test_a_clock_that_goes_back_keeps_nobody_waiting(world: World) -> None:
    """Deadlines keep their distance: a dead worker's step and a delayed one come back as if nothing was."""
    running = one_upload(world)
    world.planned({"K-1": [upload("b", "K", stored=True)]}, "K")
    delayed = world.take("u:b@dst")
    world.ledger.release(delayed.id, delayed.token, 30.0)
    world.ledger.reap(OWNER)
    world.advance(-3600)
    assert world.reap_after(world.rules.lease + 1) == 1
    assert world.pump() == [running.id]
    assert world.reap_after(25) == 2, "the delayed one, and the message that nobody looked at"


def test_a_retry_waits_for_its_delay_and_is_charged(world: World) -> None:
    """Our own timer: no message sleeps in a worker."""
    assert world.fail(one_upload(world), retry=True, delay=5) == "retry"
    assert world.reap_after(4) == 0
    assert world.pump() == []
    assert world.reap_after(2) == 1
    assert world.take("u:a@dst").attempt == 2


def test_attempts_end_and_the_image_fails_with_the_error(world: World) -> None:
    """Five charged attempts, then the failure reaches the image, which names both its ends."""
    one = one_upload(world)
    for _ in range(world.rules.attempts - 1):
        assert world.fail(one, retry=True) == "retry"
        one = world.take("u:a@dst")
    assert world.fail(one, retry=True) == "failed"
    assert world.outcomes()["J-1"] == {
        "image": "J-1",
        "state": "failed",
        "source": "src/J-1:1",
        "destination": "dst/J-1:1",
        "error": {"code": "unavailable", "message": "no answer"},
    }


def test_progress_is_not_charged_but_runs_are_limited_all_the_same(world: World) -> None:
    """A large layer over a bad line gets many runs, not endless ones."""
    claim = one_upload(world)
    runs = 1
    while world.fail(claim, retry=True, progressed=True) == "retry":
        runs += 1
        claim = world.take("u:a@dst")
        assert claim.attempt == 1
    assert runs == world.rules.runs


def test_fail_twice_with_the_same_token_answers_the_same_and_charges_once(world: World) -> None:
    """The reply to the first may have been lost."""
    claim = one_upload(world)
    assert world.fail(claim, retry=True) == "retry"
    assert world.fail(claim, retry=True) == "retry"
    assert world.take("u:a@dst").attempt == 2


def test_an_error_that_will_not_heal_fails_at_once(world: World) -> None:
    """A wrong digest is not tried five times."""
    assert world.fail(one_upload(world), retry=False) == "failed"
    assert world.state() == "failed"


def test_release_gives_the_step_back_uncharged(world: World) -> None:
    """A worker that drains hands its work over at once; saying so twice changes nothing."""
    claim = one_upload(world)
    assert world.ledger.release(claim.id, claim.token)
    assert world.ledger.release(claim.id, claim.token)
    assert world.take("u:a@dst").attempt == 1


def test_release_with_a_delay_waits(world: World) -> None:
    """Back-off is a deadline in the ledger."""
    claim = one_upload(world)
    assert world.ledger.release(claim.id, claim.token, delay=30)
    assert world.reap_after(29) == 0
    assert world.reap_after(2) == 1
    assert world.pump() == ["u:a@dst"]


def test_a_step_that_finds_something_missing_waits_for_it_and_is_not_charged(world: World) -> None:
    """The store lost the blob: the upload asks for the download and runs again after it."""
    claim = one_upload(world)
    assert world.ledger.block(claim.id, claim.token, [download("a")])
    assert world.ledger.block(claim.id, claim.token, [download("a")]), (
        "a repeated call is answered as the first"
    )
    assert world.pump() == ["d:t/a"]
    world.done(world.claim("d:t/a"))
    again = world.take("u:a@dst")
    assert again.attempt == 1
    assert again.delivered == {"d:t/a": {}}


def test_block_opens_a_need_again_that_was_done_before(world: World) -> None:
    """What was delivered may have vanished since."""
    world.planned({"J-1": [upload("a")]})
    world.finish("d:t/a")
    claim = world.take("u:a@dst")
    world.ledger.block(claim.id, claim.token, [download("a")])
    assert world.pump() == ["d:t/a"]


def test_after_three_rounds_of_blocking_the_step_fails(world: World) -> None:
    """Two parts of the world that disagree for ever must not turn in a circle."""
    claim = one_upload(world)
    for _ in range(world.rules.rounds):
        world.ledger.block(claim.id, claim.token, [download("a")])
        world.finish("d:t/a")
        claim = world.take("u:a@dst")
    assert world.ledger.block(claim.id, claim.token, [download("a")])
    assert world.outcomes()["J-1"]["error"]["code"] == "blob_unknown"


def test_a_step_that_misses_a_thousand_things_names_a_few(world: World) -> None:
    """The error goes into records and onto terminals."""
    claim = one_upload(world)
    needs = [download(str(n)) for n in range(1000)]
    for _ in range(world.rules.rounds):
        world.ledger.block(claim.id, claim.token, needs[:1])
        world.finish("d:t/0")
        claim = world.take("u:a@dst")
    world.ledger.block(claim.id, claim.token, needs)
    message = world.outcomes()["J-1"]["error"]["message"]
    assert "d:t/0, d:t/1" in message and "and 997 more" in message
    assert len(message) <= 500


def test_a_publish_may_block_on_uploads_of_its_own(world: World) -> None:
    """A refused mount becomes an upload step; the publish runs again after it and keeps what it knew."""
    world.planned({"J-1": [upload("a", stored=True)]})
    world.finish("u:a@dst", delivered={"repository": "x"})
    claim = world.take("m:J-1")
    assert world.ledger.block(claim.id, claim.token, [upload("b", stored=True)])
    assert world.run_all() == ["u:b@dst", "m:J-1"]
    assert world.state() == "done"


def test_more_needs_and_patches_reach_only_a_waiting_step(world: World) -> None:
    """Planning adds to the image's barrier and body before it leaves the barrier itself."""
    world.open(["J-1"])
    world.finish(
        "p:J-1",
        wait=(("m:J-1", (upload("a", stored=True),)), ("m:gone", (upload("b", stored=True),))),
        patch=(("m:J-1", {"digest": "sha256:1"}), ("m:J-1", {"tree": []}), ("m:gone", {"x": 1})),
    )
    assert world.pump() == ["u:a@dst"]
    world.done(world.claim("u:a@dst"))
    body = world.take("m:J-1").body
    assert (body["digest"], body["tree"], body["source"]) == ("sha256:1", [], "src/J-1:1")


def test_bodies_survive_as_they_were_given(world: World) -> None:
    """Empty lists stay lists, large integers stay integers, text stays text."""
    body = {
        "v": 1,
        "window": 3,
        "list": [],
        "map": {},
        "big": 2**52 + 1,
        "text": 'é "quoted" \u0001',
        "none": None,
    }
    world.ledger.open_job("J", {"record": body}, StepSpec("j:J", "J", body))
    assert world.take("j:J").body == {**body, "cursor": 0}
    view = world.ledger.job("J")
    assert view is not None
    assert view.record == {"record": body}


def test_spawning_what_exists_changes_nothing(world: World) -> None:
    """An expand that runs twice may name the same images."""
    world.ledger.open_job("J", {}, expand())
    images = (plan("J-1"), publish("J-1"), plan("J-1"), publish("J-1"))
    world.finish("j:J", spawn=images, total=1, cursor=1)
    assert world.counters()["open"] == 1
    assert world.run_all() == ["p:J-1", "m:J-1"]
