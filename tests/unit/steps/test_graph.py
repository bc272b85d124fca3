"""Whole jobs through every step over the ledger in memory: what moves, how often, what stands at the end."""

from __future__ import annotations

from distworker.digest import Digest
from distworker.state.base import Claim
from tests.fakes.content import complete, image, layer, put
from tests.fakes.ports import Run, registry_place
from tests.unit.steps.graph_kit import APP, AT_SOURCE, BASE, TOOL, copy, multi_arch, pair, sites


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
