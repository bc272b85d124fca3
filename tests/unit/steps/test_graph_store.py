"""Whole jobs that begin or end in the store, or find something there."""

from __future__ import annotations

import pytest

from distworker.blobstore.keys import blob_key, ref_key
from distworker.digest import Digest
from distworker.state.base import Claim
from tests.fakes.content import complete, image, put
from tests.fakes.ports import Run, Site, registry_place, store_place
from tests.unit.steps.graph_kit import APP, AT_SOURCE, BASE, copy, multi_arch, pair, sites


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
