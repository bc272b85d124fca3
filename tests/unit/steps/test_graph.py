"""Whole jobs through every step over the ledger in memory: what moves, how often, what stands at the end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from distworker import mediatypes
from distworker.blobstore.keys import blob_key, ref_key
from distworker.digest import Digest
from distworker.errors import Denied, Unavailable
from distworker.manifest import parse_manifest
from distworker.plan.model import Pair, Place
from distworker.platforms import Platform
from distworker.state.base import Claim
from tests.fakes.content import LAYER, Image, complete, descriptor, image, index, layer, put
from tests.fakes.ports import Run, Site, registry_place, store_place

BASE, APP, TOOL = layer("base"), layer("app"), layer("tool")
AT_SOURCE = registry_place("src.example", "team/app", "1")


def pair(source: Place, destination: Place, **more: Any) -> Pair:
    return Pair(source, destination, **more)


def copy(tag: str = "1", repository: str = "team/app", **more: Any) -> Pair:
    return pair(
        registry_place("src.example", repository, tag),
        registry_place("dst.example", repository),
        **more,
    )


@pytest.fixture
def run() -> Run:
    return Run(Site("src.example"), Site("dst.example"))


def sites(run: Run) -> tuple[Site, Site]:
    return run.sites["src.example"], run.sites["dst.example"]


def wait_until(holds: Callable[[], bool]) -> None:
    """The tee's other side ends on its own time; a generous guard against a hang."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def multi_arch() -> Image:
    """Two platforms that share a layer, and an attestation."""
    return index(
        (image(BASE, APP, config=b'{"a":1}'), "linux/amd64"),
        (image(BASE, TOOL, config=b'{"a":2}'), "linux/arm64"),
        (image(layer("sbom", 300), config=b'{"a":3}'), "unknown/unknown"),
    )


def test_a_multi_arch_image_arrives_whole_and_each_layer_is_read_once(run: Run) -> None:
    """Index, children, attestation and blobs are the same bytes; the shared layer moved once."""
    source, target = sites(run)
    content = put(source, "team/app", "1", multi_arch())
    outcomes = run.job("j1", copy())
    assert [o["state"] for o in outcomes] == ["done"]
    assert outcomes[0]["digest"] == content.digest
    assert outcomes[0]["previous"] == ""
    assert (outcomes[0]["manifests"], outcomes[0]["blobs"]) == (4, 7)
    assert complete(target, "team/app", content)
    assert target.repositories["team/app"].tags == {"1": content.digest}
    assert source.served[Digest.of(BASE)] == len(BASE)
    assert not target.sessions


def test_the_tag_is_the_last_thing_written(run: Run) -> None:
    """Children come by digest, then the root by digest, then the tag."""
    source, target = sites(run)
    content = put(source, "team/app", "1", multi_arch())
    run.job("j1", copy())
    puts = [call[2] for call in target.calls if call[0] == "put_manifest"]
    children = [str(child.digest) for child in content.children]
    assert puts == [*children, str(content.digest), "1"]
    writes = [
        i for i, call in enumerate(target.calls) if call[0] in {"upload_blob", "mount_blob", "put_manifest"}
    ]
    assert target.calls[writes[-1]] == ("put_manifest", "team/app", "1")


def test_two_images_that_share_a_layer_move_it_once_and_mount_the_rest(run: Run) -> None:
    """The second repository gets the shared layer by a mount, and nothing is read twice."""
    source, target = sites(run)
    one = put(source, "team/app", "1", image(BASE, APP))
    two = put(source, "team/tool", "1", image(BASE, TOOL, layer("small", 10)))
    outcomes = run.job("j1", copy(), copy(repository="team/tool"))
    assert {o["state"] for o in outcomes} == {"done"}
    assert complete(target, "team/app", one)
    assert complete(target, "team/tool", two)
    assert all(source.served[Digest.of(data)] == len(data) for data in (BASE, APP, TOOL))
    uploads = [call[2] for call in target.calls if call[0] == "upload_blob"]
    assert uploads.count(Digest.of(BASE)) == 1
    assert uploads.count(Digest.of(b"{}")) == 1
    assert not [step for step in run.ran if "dst.example/" in step]
    counters = run.counters("j1")
    assert counters["downloaded"] == counters["uploaded"] == len(BASE + APP + TOOL + b"{}") + 10


def test_a_second_run_changes_nothing_and_reads_no_manifest(run: Run) -> None:
    """Two HEADs tell that the image is there."""
    source, target = sites(run)
    content = put(source, "team/app", "1", multi_arch())
    run.job("j1", copy())
    source.calls.clear()
    target.calls.clear()
    outcomes = run.job("j2", copy())
    assert [o["state"] for o in outcomes] == ["unchanged"]
    assert outcomes[0]["digest"] == outcomes[0]["previous"] == content.digest
    assert [call[0] for call in source.calls + target.calls] == ["head_manifest", "head_manifest"]


def test_only_what_changed_moves(run: Run) -> None:
    """A new image over an old one moves its new layer; the outcome names the digest the tag had before."""
    source, target = sites(run)
    old = put(source, "team/app", "1", image(BASE, APP))
    run.job("j1", copy())
    new = put(source, "team/app", "1", image(BASE, TOOL))
    outcomes = run.job("j2", copy())
    assert outcomes[0]["previous"] == old.digest
    assert complete(target, "team/app", new)
    assert run.counters("j2")["downloaded"] == len(TOOL)
    assert run.counters("j2")["saved_present"] == len(BASE + b"{}")


def test_a_refused_mount_becomes_an_upload_step_of_its_own(run: Run) -> None:
    """Where mounts are refused, the blob goes from the store, and the source is still read once."""
    source, target = sites(run)
    target.refuse_mounts = True
    one = put(source, "team/app", "1", image(BASE))
    two = put(source, "team/tool", "1", image(BASE, config=b'{"t":1}'))
    outcomes = run.job("j1", copy(), copy(repository="team/tool"))
    assert {o["state"] for o in outcomes} == {"done"}
    assert complete(target, "team/app", one)
    assert complete(target, "team/tool", two)
    assert source.served[Digest.of(BASE)] == len(BASE)
    own = [step for step in run.ran if step.startswith(f"u:{Digest.of(BASE)}@dst.example/")]
    assert len(own) == 1
    assert not target.sessions


def test_within_one_registry_layers_are_mounted_and_nothing_is_read(run: Run) -> None:
    """Source and destination on one origin: no byte of a layer passes through us."""
    source, _ = sites(run)
    content = put(source, "team/app", "1", image(BASE, APP))
    outcomes = run.job("j1", pair(AT_SOURCE, registry_place("src.example", "prod/app")))
    assert outcomes[0]["state"] == "done"
    assert complete(source, "prod/app", content)
    assert not source.served
    assert run.counters("j1")["saved_mounted"] == len(BASE + APP + b"{}")


def test_within_one_registry_a_refused_mount_is_moved_through_the_store(run: Run) -> None:
    """The mount is tried once per blob; after the download the upload does not try it again."""
    source, _ = sites(run)
    source.refuse_mounts = True
    content = put(source, "team/app", "1", image(BASE))
    outcomes = run.job("j1", pair(AT_SOURCE, registry_place("src.example", "prod/app")))
    assert outcomes[0]["state"] == "done"
    assert complete(source, "prod/app", content)
    assert source.count("mount_blob") == 2
    assert not source.sessions


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


def test_the_tee_feeds_the_destination_in_the_same_pass(run: Run) -> None:
    """One reading serves store and destination: no upload step runs, and the blob stays in the store."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE, APP))
    run.job("j1", copy())
    assert complete(target, "team/app", content)
    assert not [step for step in run.ran if step.startswith("u:")]
    assert run.counters("j1")["uploaded"] == len(BASE + APP + b"{}")
    assert run.store.stat(blob_key("default", Digest.of(BASE))) is not None


def test_a_tee_that_fails_costs_nothing_but_the_upload_step(run: Run) -> None:
    """The destination refuses the first session; the blob still arrives, from the store, read once."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE))
    target.errors["start_upload"] = Unavailable("no sessions just now")
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done"
    assert complete(target, "team/app", content)
    assert source.served[Digest.of(BASE)] == len(BASE)
    assert [step for step in run.ran if step.startswith("u:")]


def test_a_tee_that_stalls_is_cut(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download ends although the destination takes nothing; its half upload is dropped."""
    monkeypatch.setattr("distworker.steps.tee.STALL", 0.05)
    monkeypatch.setattr("distworker.steps.tee.COMMIT", 0.05)
    source, target = sites(run)
    put(source, "team/app", "1", image(BASE))
    target.gate = threading.Event()
    run.open("j1", copy())
    while f"d:default/{Digest.of(BASE)}" not in run.ran:
        run.ledger.beat("me", 8, {}, [])
        for step in run.ledger.pump():
            run.step(step.id)
        run.now += 1
    assert run.store.stat(blob_key("default", Digest.of(BASE))) is not None
    target.gate.set()
    target.gate = None
    run.drain()
    assert run.outcomes("j1")[0]["state"] == "done"


def test_pull_and_push_go_through_the_store(run: Run) -> None:
    """Pull leaves blobs and a ref; push from there needs no source; a second pull is unchanged."""
    source, target = sites(run)
    content = put(source, "team/app", "1", multi_arch())
    kept = store_place("src.example", "team/app")
    pulled = run.job("pull", pair(AT_SOURCE, kept))
    assert pulled[0]["state"] == "done"
    assert run.store.stat(ref_key("default", "src.example", "team/app", "1")) is not None
    source.calls.clear()
    pushed = run.job(
        "push", pair(store_place("src.example", "team/app", "1"), registry_place("dst.example", "a/b"))
    )
    assert pushed[0]["state"] == "done"
    assert complete(target, "a/b", content)
    assert source.calls == []
    again = run.job("again", pair(AT_SOURCE, kept))
    assert again[0]["state"] == "unchanged"


@pytest.mark.parametrize("part", ["a layer", "a child"])
def test_a_second_pull_brings_back_what_left_the_store(run: Run, part: str) -> None:
    """A ref alone is no proof: blobs are collected, or removed because they were damaged."""
    source, target = sites(run)
    content = put(source, "team/app", "1", multi_arch())
    run.job("pull", pair(AT_SOURCE, store_place("x.example", "a")))
    lost = Digest.of(APP) if part == "a layer" else content.children[0].digest
    run.store.delete(blob_key("default", lost))
    assert run.job("again", pair(AT_SOURCE, store_place("x.example", "a")))[0]["state"] == "done"
    assert run.store.stat(blob_key("default", lost)) is not None
    run.job("push", pair(store_place("x.example", "a", "1"), registry_place("dst.example", "a/b")))
    assert complete(target, "a/b", content)


def test_pull_writes_no_ref_when_a_layer_is_wrong(run: Run) -> None:
    """What the store shows under a tag is complete."""
    source, _ = sites(run)
    put(source, "team/app", "1", image(BASE, APP))
    source.corrupt.add(Digest.of(APP))
    outcomes = run.job("pull", pair(AT_SOURCE, store_place("x.example", "a")))
    assert outcomes[0]["error"]["code"] == "digest_mismatch"
    assert list(run.store.list("default/refs/")) == []


def test_push_of_an_image_the_store_lacks_says_pull_it_first(run: Run) -> None:
    """A typed error, not a wait for something that never comes."""
    outcomes = run.job("push", pair(store_place("x.example", "a", "1"), registry_place("dst.example", "a")))
    assert outcomes[0]["error"]["code"] == "manifest_unknown"
    assert "pull it first" in outcomes[0]["error"]["message"]


def test_push_with_a_blob_gone_from_the_store_fails_clearly(run: Run) -> None:
    """There is no source to fetch it from."""
    source, target = sites(run)
    put(source, "team/app", "1", image(BASE))
    run.job("pull", pair(AT_SOURCE, store_place("x.example", "a")))
    run.store.delete(blob_key("default", Digest.of(BASE)))
    outcomes = run.job("push", pair(store_place("x.example", "a", "1"), registry_place("dst.example", "a")))
    assert outcomes[0]["error"]["code"] == "blob_unknown"
    assert "pull the image again" in outcomes[0]["error"]["message"]
    assert not target.repository("a").tags


@pytest.mark.parametrize(
    "content",
    [
        image(BASE, BASE, layer("x", 0), APP),
        image(media_type=mediatypes.DOCKER_MANIFEST),
        image(artifactType="application/x-thing"),
        index((index((image(BASE), "linux/amd64")), ""), (image(APP), "linux/arm64")),
        index(),
        index((image(BASE), "linux/amd64"), media_type=mediatypes.DOCKER_LIST),
    ],
    ids=["duplicate and empty layers", "no layers", "artifact", "nested index", "empty index", "docker list"],
)
def test_every_shape_of_image_is_copied_as_it_is(run: Run, content: Image) -> None:
    """Bytes survive, whatever they say."""
    source, target = sites(run)
    put(source, "team/app", "1", content)
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done", outcomes
    assert complete(target, "team/app", content)
    assert target.repositories["team/app"].tags == {"1": content.digest}


def test_one_wanted_platform_copies_that_child_as_the_image(run: Run) -> None:
    """As `docker pull` does; the digest is the child's and nothing of the other platform moves."""
    source, target = sites(run)
    content = put(source, "team/app", "1", multi_arch())
    child = content.children[1]
    outcomes = run.job("j1", copy(platforms=(Platform.parse("linux/arm64"),)))
    assert outcomes[0]["digest"] == child.digest
    assert complete(target, "team/app", child)
    assert Digest.of(APP) not in target.repositories["team/app"].blobs
    again = run.job("j2", copy(platforms=(Platform.parse("linux/arm64"),)))
    assert again[0]["state"] == "unchanged"


def test_a_platform_that_is_not_there_is_named_with_what_is(run: Run) -> None:
    """The sentence lists the platforms of the index."""
    source, _ = sites(run)
    put(source, "team/app", "1", multi_arch())
    outcomes = run.job("j1", copy(platforms=(Platform.parse("linux/s390x"),)))
    assert outcomes[0]["error"]["code"] == "manifest_unknown"
    assert (
        "no matching manifest for linux/s390x; there are linux/amd64, linux/arm64"
        in outcomes[0]["error"]["message"]
    )


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


def test_a_digest_without_a_tag_arrives_without_a_tag(run: Run) -> None:
    """The root is put once, by digest."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE))
    place = registry_place("src.example", "team/app", digest=content.digest)
    outcomes = run.job("j1", pair(place, registry_place("dst.example", "a")))
    assert outcomes[0]["state"] == "done"
    assert complete(target, "a", content)
    assert not target.repositories["a"].tags
    assert target.count("put_manifest") == 1


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


def test_a_blob_collected_from_the_store_is_downloaded_again(run: Run) -> None:
    """An upload that finds the store empty waits for a download."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE))
    run.job("pull", pair(AT_SOURCE, store_place("x.example", "a")))

    def collect(claim: Claim) -> None:
        if claim.id.startswith(f"u:{Digest.of(BASE)}"):
            run.store.delete(blob_key("default", Digest.of(BASE)))
            run.before = lambda claim: None

    run.before = collect
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done"
    assert complete(target, "team/app", content)
    assert source.served[Digest.of(BASE)] == 2 * len(BASE)


def test_knowing_a_digest_is_no_right_to_anothers_layer(run: Run) -> None:
    """A manifest that lists a private layer of another credential gets an error, not the cached bytes."""
    source, target = sites(run)
    put(source, "private/app", "1", image(BASE))
    put(source, "mine/app", "1", image(BASE), without=[BASE])
    source.hidden["mine"] = {"private/app"}
    run.job("j1", copy(repository="private/app"))
    mine = pair(
        registry_place("src.example", "mine/app", "1", credential="mine"),
        registry_place("dst.example", "mine/app", credential="mine"),
    )
    target.hidden["mine"] = {"private/app"}
    outcomes = run.job("j2", mine)
    assert outcomes[0]["error"]["code"] == "blob_unknown"
    assert Digest.of(BASE) not in target.repository("mine/app").blobs


def test_the_image_planned_later_keeps_the_tag(run: Run) -> None:
    """A publish that comes late finds itself superseded and touches nothing."""
    source, target = sites(run)
    put(source, "team/app", "1", image(BASE))
    run.open("old", copy())
    held: list[str] = []
    while not held:
        run.ledger.beat("me", 8, {}, [])
        for step in run.ledger.pump():
            if step.id.startswith("m:old"):
                held.append(step.id)
            else:
                run.step(step.id)
        run.now += 1
    new = put(source, "team/app", "1", image(BASE, APP))
    run.job("new", copy())
    run.step(held[0])
    run.drain()
    assert [o["state"] for o in run.outcomes("old")] == ["superseded"]
    assert target.repositories["team/app"].tags == {"1": new.digest}


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


def test_an_external_layer_that_nobody_has_stays_where_it_is(run: Run) -> None:
    """The manifest is copied with its `urls`; they are not followed."""
    source, target = sites(run)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    foreign = descriptor(APP, kind, urls=["https://elsewhere.example/layer"])
    content = image(BASE, layers=[descriptor(BASE, LAYER), foreign])
    put(source, "team/app", "1", content)
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done"
    assert complete(target, "team/app", content)
    assert Digest.of(APP) not in target.repositories["team/app"].blobs


def test_an_external_layer_that_the_registry_keeps_is_copied(run: Run) -> None:
    """The registry's own blob endpoint is tried first."""
    source, target = sites(run)
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    content = image(layers=[descriptor(APP, kind, urls=["https://elsewhere.example/layer"])])
    put(source, "team/app", "1", content)
    source.repositories["team/app"].blobs[Digest.of(APP)] = APP
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done"
    assert target.repositories["team/app"].blobs[Digest.of(APP)] == APP


def test_an_index_entry_that_is_a_blob_is_copied_as_a_blob(run: Run) -> None:
    """Nothing of an index is dropped because its type is unknown."""
    source, target = sites(run)
    listed = [descriptor(TOOL, "application/x-thing")]
    raw = json.dumps({"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": listed}).encode()
    content = Image(parse_manifest(raw), (TOOL,))
    put(source, "team/app", "1", content)
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done", outcomes
    assert complete(target, "team/app", content)


def test_a_later_job_mounts_what_an_earlier_one_delivered(run: Run) -> None:
    """The ledger remembers where a blob went; nothing is read or sent again."""
    source, target = sites(run)
    put(source, "team/app", "1", image(BASE))
    run.job("j1", copy())
    content = put(source, "team/tool", "1", image(BASE))
    uploads = target.count("upload_blob")
    outcomes = run.job("j2", copy(repository="team/tool"))
    assert outcomes[0]["state"] == "done"
    assert complete(target, "team/tool", content)
    assert target.count("upload_blob") == uploads
    assert run.counters("j2")["saved_mounted"] == len(BASE + b"{}")


def test_a_later_job_to_another_registry_sends_from_the_store(run: Run) -> None:
    """One reading of a source serves every destination."""
    source, _ = sites(run)
    other = run.add(Site("other.example"))
    content = put(source, "team/app", "1", image(BASE))
    run.job("j1", copy())
    outcomes = run.job("j2", pair(AT_SOURCE, registry_place("other.example", "team/app")))
    assert outcomes[0]["state"] == "done"
    assert complete(other, "team/app", content)
    assert source.served[Digest.of(BASE)] == len(BASE)
    assert run.counters("j2")["saved_stored"] == len(BASE + b"{}")


def test_a_damaged_copy_in_the_store_is_thrown_away_and_read_again(run: Run) -> None:
    """The destination notices; the source gives the right bytes."""
    source, target = sites(run)
    content = put(source, "team/app", "1", image(BASE))
    run.job("pull", pair(AT_SOURCE, store_place("x.example", "a")))
    run.store.put_bytes(blob_key("default", Digest.of(BASE)), bytes(len(BASE)))
    outcomes = run.job("j1", copy())
    assert outcomes[0]["state"] == "done", outcomes
    assert complete(target, "team/app", content)
    assert run.store.get_bytes(blob_key("default", Digest.of(BASE)), len(BASE)) == BASE


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


def test_a_source_tag_that_moves_while_it_is_planned_is_copied_as_pinned(run: Run) -> None:
    """What is published is what was resolved, whole, not a mixture."""
    source, target = sites(run)
    first = put(source, "team/app", "1", image(BASE))

    def move(claim: Claim) -> None:
        if claim.id.startswith("d:"):
            put(source, "team/app", "1", image(APP, TOOL))

    run.before = move
    outcomes = run.job("j1", copy())
    assert outcomes[0]["digest"] == first.digest
    assert complete(target, "team/app", first)
    assert target.repositories["team/app"].tags == {"1": first.digest}
