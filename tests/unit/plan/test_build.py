"""The edges of the graph, drawn from plain values."""

from __future__ import annotations

from dataclasses import replace

from distworker.digest import Digest
from distworker.plan.build import image_steps, plan_change, repository_upload, unchanged_change
from distworker.plan.codec import load_blob
from distworker.plan.model import (
    MOUNT,
    MOVE,
    PRESENT,
    STORED,
    BlobMove,
    BlobRoute,
    ImageTransfer,
    ImageTree,
    PublishOrder,
)
from tests.fakes.content import image
from tests.fakes.ports import registry_place, store_place

DIGEST = Digest.of(b"layer")
SOURCE = registry_place("src.example", "a", "1", credential="reader")
TARGET = registry_place("dst.example", "b", "1", credential="writer")
TRANSFER = ImageTransfer("j1-0", "j1", SOURCE, TARGET, priority=8, tenant="acme")
ROOT = image().manifest
TREE = ImageTree(ROOT, (ROOT,))


def plan(transfer: ImageTransfer, *routes: BlobRoute) -> dict[str, object]:
    change = plan_change(PublishOrder(transfer, ROOT.digest, ROOT.media_type, sequence=3), TREE, routes)
    waits = change.wait[0][1] if change.wait else ()
    return {"change": change, "waits": waits}


def route(kind: str, near: str = "") -> BlobRoute:
    return BlobRoute(DIGEST, 100, "x/y", kind, near)


def test_publish_waits_for_plan_and_both_name_their_side() -> None:
    """Pauses of the source hold back planning, pauses of the destination publishing."""
    first, second = image_steps(TRANSFER)
    assert (first.id, first.origin, first.credential) == ("p:j1-0", "src.example", "reader")
    assert (second.id, second.origin, second.credential) == ("m:j1-0", "dst.example", "writer")
    assert second.needs == (first,)
    assert first.priority == second.priority == 8


def test_a_blob_to_move_is_an_upload_behind_a_download() -> None:
    """Each in its own side's slot, named for the way it is read."""
    (upload,) = plan(TRANSFER, route(MOVE))["waits"]  # type: ignore[misc]
    assert upload.id == f"u:{DIGEST}@dst.example"
    assert (upload.origin, upload.credential) == ("dst.example", "writer")
    assert upload.via == "registry:src.example/a#reader→dst.example/b#writer"
    (download,) = upload.needs
    assert download.id == f"d:acme/{DIGEST}"
    assert (download.origin, download.credential) == ("src.example", "reader")
    assert download.via == "registry:src.example/a#reader"
    assert "destination" not in download.body


def test_a_mount_and_a_stored_blob_wait_for_nothing() -> None:
    """The body says where to mount from, or that this image may use the store's copy."""
    (mount,) = plan(TRANSFER, route(MOUNT, "near"))["waits"]  # type: ignore[misc]
    assert (mount.needs, mount.body["mount_from"]) == ((), "near")
    (stored,) = plan(TRANSFER, route(STORED))["waits"]  # type: ignore[misc]
    assert (stored.needs, stored.body["proven"]) == ((), True)


def test_present_blobs_need_no_step_and_are_counted_as_saved() -> None:
    """Those that the store has are counted by the step that sends them, once it is known to be so."""
    change = plan(TRANSFER, route(PRESENT), replace(route(STORED), size=7))["change"]
    assert change.counts == {"saved_present": 100}  # type: ignore[attr-defined]
    assert len(change.wait[0][1]) == 1  # type: ignore[attr-defined]


def test_publish_learns_what_was_pinned() -> None:
    """Digest, type and its number in the lane."""
    change = plan(TRANSFER)["change"]
    ((step, fields),) = change.patch  # type: ignore[attr-defined]
    assert step == "m:j1-0"
    assert fields == {"digest": str(ROOT.digest), "media_type": ROOT.media_type, "sequence": 3}
    assert change.wait == ()  # type: ignore[attr-defined]


def test_a_pull_waits_for_downloads_and_a_push_for_uploads_alone() -> None:
    """The store is one of the ends."""
    (download,) = plan(replace(TRANSFER, destination=store_place("x.example", "b", "1")), route(MOVE))[
        "waits"
    ]  # type: ignore[misc]
    assert (download.id, download.needs) == (f"d:acme/{DIGEST}", ())
    push = replace(TRANSFER, source=store_place("x.example", "b", "1"))
    (upload,) = plan(push, route(STORED))["waits"]  # type: ignore[misc]
    assert (upload.id, upload.needs) == (f"u:{DIGEST}@dst.example", ())


def test_an_upload_of_its_own_names_the_repository() -> None:
    """And needs a download only when the store lacks the blob."""
    move = BlobMove("j1", "acme", SOURCE, DIGEST, 100, destination=TARGET)
    own = repository_upload(move, TARGET, stored=False)
    assert own.id == f"u:{DIGEST}@dst.example/b"
    assert [need.id for need in own.needs] == [f"d:acme/{DIGEST}"]
    assert repository_upload(move, TARGET, stored=True).needs == ()
    assert load_blob(own.body, "j1").destination == replace(TARGET, tag="")


def test_an_unchanged_image_closes_at_once() -> None:
    """Both ends as text, and the digest twice."""
    closing = unchanged_change(TRANSFER, ROOT.digest).closing
    assert closing is not None
    assert closing.state == "unchanged"
    assert closing.outcome == {
        "v": 1,
        "image": "j1-0",
        "source": "src.example/a:1",
        "destination": "dst.example/b:1",
        "digest": str(ROOT.digest),
        "previous": str(ROOT.digest),
    }
