"""Whole jobs that meet wrong bytes, missing blobs and refusals."""

from __future__ import annotations

from distworker.blobstore.keys import blob_key
from distworker.digest import Digest
from distworker.errors import Denied
from distworker.state.base import Claim
from tests.fakes.content import complete, image, layer, put
from tests.fakes.ports import Run, registry_place, store_place
from tests.unit.steps.graph_kit import APP, AT_SOURCE, BASE, TOOL, copy, pair, sites, wait_until


def test_a_missing_blob_fails_only_the_image_that_needs_it(run: Run) -> None:
    """The error is the source's typed one; the other image arrives; no tag is written for the failed one."""
    source, target = sites(run)
    put(source, "team/bad", "1", image(BASE, APP), without=[APP])
    good = put(source, "team/tool", "1", image(BASE, TOOL))
    outcomes = {
        o["image"]: o for o in run.job("j1", copy(repository="team/bad"), copy(repository="team/tool"))
    }
    assert outcomes["j1-0"]["state"] == "failed"
    assert outcomes["j1-0"]["error"]["code"] == "blob_unknown"
    assert outcomes["j1-0"]["destination"] == "dst.example/team/bad:1"
    assert outcomes["j1-1"]["state"] == "done"
    assert complete(target, "team/tool", good)
    assert "team/bad" not in target.repositories or not target.repositories["team/bad"].tags


def test_wrong_bytes_are_a_digest_mismatch_and_reach_neither_store_nor_destination(run: Run) -> None:
    """Also on the tee path the destination never gets the whole wrong blob, and the old tag stands."""
    source, target = sites(run)
    old = put(target, "team/app", "1", image(TOOL))
    put(source, "team/app", "1", image(BASE, APP))
    source.corrupt.add(Digest.of(APP))
    outcomes = run.job("j1", copy())
    assert outcomes[0]["error"]["code"] == "digest_mismatch"
    assert run.store.stat(blob_key("default", Digest.of(APP))) is None
    assert Digest.of(APP) not in target.repositories["team/app"].blobs
    assert target.repositories["team/app"].tags == {"1": old.digest}
    wait_until(lambda: not target.sessions)


def test_bytes_that_are_wrong_once_are_read_once_more(run: Run) -> None:
    """For the store only: the destination's half upload is dropped, and it gets the blob from there."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(APP))
    source.corrupt_once.add(Digest.of(APP))
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done", outcomes
    assert complete(target, "team/app", content)
    assert source.served[Digest.of(APP)] == 2 * len(APP)
    assert f"u:{Digest.of(APP)}@dst.example" in run.ran
    assert run.counters("j1")["downloaded"] == len(APP + b"{}")
    wait_until(lambda: not target.sessions)


def test_bytes_that_are_wrong_twice_are_wrong(run: Run) -> None:
    """Exactly one clean retry; neither reading was ever visible in the store."""
    source, _ = sites(run)
    put(source, "team/app", "1", image(APP))
    source.corrupt.add(Digest.of(APP))
    seen = []
    run.before = lambda claim: seen.append(run.store.stat(blob_key("default", Digest.of(APP))))
    outcomes = run.job("j1", copy())
    assert outcomes[0]["error"]["code"] == "digest_mismatch"
    assert source.count("read_blob") == len(["config", "layer", "layer again"])
    assert {*seen, run.store.stat(blob_key("default", Digest.of(APP)))} == {None}


def test_a_wrong_blob_of_one_chunk_is_left_to_the_registry_port(run: Run) -> None:
    """Nothing of it was handed on, so the port has tried it a second time already."""
    source, _ = sites(run)
    put(source, "team/app", "1", image(layer("small", 100)))
    source.corrupt.add(Digest.of(layer("small", 100)))
    assert run.job("j1", copy())[0]["error"]["code"] == "digest_mismatch"
    assert source.served[Digest.of(layer("small", 100))] == 100


def test_all_tags_are_copied_and_a_repository_that_cannot_be_listed_fails_alone(run: Run) -> None:
    """Every tag is an image of its own; the missing repository is one failed image."""
    source, target = sites(run)
    put(source, "team/app", "1", image(BASE))
    put(source, "team/app", "2", image(APP))
    outcomes = run.job(
        "j1",
        pair(registry_place("src.example", "gone"), registry_place("dst.example", "gone"), all_tags=True),
        pair(registry_place("src.example", "team/app"), registry_place("dst.example", "copy"), all_tags=True),
    )
    states = {o["image"]: o["state"] for o in outcomes}
    assert states == {"j1-0": "failed", "j1-1": "done", "j1-2": "done"}
    assert set(target.repositories["copy"].tags) == {"1", "2"}
    assert next(o for o in outcomes if o["image"] == "j1-0")["error"]["code"] == "repository_unknown"


def test_a_refusing_destination_is_one_typed_failure(run: Run) -> None:
    """Its own words, and no tag."""
    source, target = sites(run)
    put(source, "team/app", "1", image(BASE))
    target.errors["put_manifest"] = Denied("you may not", status=403)
    outcomes = run.job("j1", copy())
    assert outcomes[0]["error"]["code"] == "denied"
    assert not target.repositories["team/app"].tags


def test_a_registry_that_sees_its_blobs_late_is_tried_again(run: Run) -> None:
    """The client gave up waiting twice, then it works; nothing is sent again."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE))
    target.lag = 2
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done"
    assert complete(target, "team/app", content)
    assert target.count("upload_blob") == 2


def test_a_registry_that_lost_a_blob_gets_it_again(run: Run) -> None:
    """Gone between its upload and the manifest: one more upload from the store, none from the source."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE, APP))
    lost: list[str] = []

    def lose(claim: Claim) -> None:
        if claim.id.startswith("m:") and not lost:
            lost.append(claim.id)
            del target.repositories["team/app"].blobs[Digest.of(BASE)]

    run.before = lose
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done"
    assert complete(target, "team/app", content)
    assert source.served[Digest.of(BASE)] == len(BASE)


def test_an_immutable_tag_is_a_typed_failure_and_the_same_content_is_success(run: Run) -> None:
    """The old tag stands."""
    source, target = sites(run)
    old = put(source, "team/app", "1", image(BASE))
    run.job("j1", copy())
    target.immutable.add("1")
    put(source, "team/app", "1", image(APP))
    outcomes = run.job("j2", copy())
    assert outcomes[0]["error"]["code"] == "tag_immutable"
    assert target.repositories["team/app"].tags == {"1": old.digest}


def test_a_blob_that_head_does_not_show_is_proved_by_reading(run: Run) -> None:
    """An unclear HEAD is not a refusal: a second tenant of the same source still gets the stored copy."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE))
    run.job("pull", pair(AT_SOURCE, store_place("x.example", "a")))
    source.blind.add(Digest.of(BASE))
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done", outcomes
    assert complete(target, "team/app", content)


def test_a_cancelled_job_closes_its_images_and_leaves_no_tag(run: Run) -> None:
    """Cancelled before its layers moved."""
    source, target = sites(run)
    put(source, "team/app", "1", image(BASE))
    run.open("j1", copy())
    run.before = lambda claim: run.ledger.cancel("j1") if claim.id.startswith("d:") else None  # type: ignore[assignment,return-value]
    run.drain()
    assert [o["state"] for o in run.outcomes("j1")] == ["cancelled"]
    assert not target.repository("team/app").tags
