"""A run that must stop, or lost its step, in the middle of talking to a registry."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from distworker.blobstore.memory import MemoryStore
from distworker.digest import Digest
from distworker.errors import Cancelled, Denied, Draining, Interrupted, Lost
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import OCI_MANIFEST
from distworker.plan.ends import RegistryEnd
from distworker.registry.base import Registry
from distworker.state.memory import MemoryLedger
from distworker.steps.base import Context
from distworker.steps.lane import Lane
from distworker.stopping import Stopper
from tests.fakes.content import image, layer
from tests.fakes.ports import FakeWatch
from tests.fakes.registry import error
from tests.fakes.registry_server import Answer, Twist
from tests.unit.registry.conftest import Rig, Sent


class OneRegistry:
    """No registry is asked for here."""

    def client(self, host: str, credential: str = "") -> Registry:
        raise AssertionError("the end is given")

    source = client


RigMaker = Callable[..., Rig]
IMAGE = image(layer("one", 1000))
MANIFEST = parse_manifest(IMAGE.manifest.raw, OCI_MANIFEST)
GUARD = 30.0


def filled(rig: Rig) -> Rig:
    """With everything but the manifest in place."""
    for blob in IMAGE.blobs:
        rig.fake.put_blob("a/b", blob)
    return rig


@pytest.mark.parametrize(
    "answer",
    [Answer(503), error(404, "MANIFEST_BLOB_UNKNOWN")],
    ids=["it fails once", "it does not see its blobs yet"],
)
def test_a_tag_is_not_sent_again_once_the_step_is_lost(rig: RigMaker, answer: Answer) -> None:
    """There are seconds between two tries, in which a worker may have been frozen."""
    r, asked = filled(rig()), []

    def fence() -> None:
        asked.append(r.fake.count("PUT", "/manifests/"))
        if len(asked) == 2:
            raise Lost("another worker has it now")

    r.fake.on("PUT", "/manifests/1", answer)
    with Stopper(fence).bound(), pytest.raises(Lost):
        r.client.put_manifest("a/b", "1", MANIFEST)
    assert asked == [0, 1]
    assert not r.fake.written("a/b", "1")


def test_a_manifest_by_its_digest_asks_nobody(rig: RigMaker) -> None:
    """It changes nothing that anybody sees."""
    r = filled(rig())

    def fence() -> None:
        raise Lost("another worker has it now")

    with Stopper(fence).bound():
        r.client.put_manifest("a/b", str(MANIFEST.digest), MANIFEST)
    assert r.fake.written("a/b", str(MANIFEST.digest))


def test_a_read_of_a_silent_registry_ends_with_the_run(rig: RigMaker) -> None:
    """Not with the timeout of the socket, a minute later; and it is not asked again."""
    r, data = rig(), layer("large", 500_000)
    digest = r.fake.put_blob("a/b", data)
    r.fake.always("GET", "/blobs/", Twist(cut=100_000, stall=600))
    stopper, came, ended = Stopper(), threading.Event(), []

    def read() -> None:
        with stopper.bound():
            try:
                with r.client.read_blob("a/b", Digest.parse(digest), len(data)) as blob:
                    for _ in blob:
                        came.set()
            except Cancelled as error:
                ended.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert came.wait(GUARD)
    stopper.stop(Cancelled("nobody wants it"))
    thread.join(GUARD)
    assert ended == ["cancelled: nobody wants it"]
    assert r.fake.count("GET", "/blobs/") == 1


def test_a_session_is_taken_back_although_the_run_is_over(rig: RigMaker) -> None:
    """That is what it is called for."""
    r = rig()
    stopper = Stopper()
    with stopper.bound():
        session = r.client.start_upload("a/b")
        stopper.stop(Cancelled("nobody wants it"))
        r.client.cancel_upload(session)
        with pytest.raises(Cancelled):
            r.client.start_upload("a/b")
    assert r.fake.sessions == {}


@pytest.mark.parametrize(
    ("reason", "cancelled"),
    [(Lost("another worker has it"), 0), (Cancelled("nobody waits for it"), 1), (Draining("stopping"), 1)],
)
def test_a_session_that_a_successor_may_have_is_left_alone(
    rig: RigMaker, reason: Interrupted, cancelled: int
) -> None:
    """A worker that wakes up finds its session refused, and does not know yet that others went on with it."""
    r, data = rig(), layer("large", 500_000)

    def fence() -> None:
        raise reason

    r.fake.always("PUT", "/blobs/uploads/", error(403, "DENIED"))
    with Stopper(fence).bound(), pytest.raises(Denied):
        r.client.upload_blob("a/b", Digest.of(data), len(data), lambda offset: Sent(data).at(offset))
    assert r.fake.count("DELETE", "/blobs/uploads/") == cancelled


def test_a_late_tag_is_put_right_by_the_run_that_lost_its_step(rig: RigMaker) -> None:
    """By the real client, whose every try of a tag is fenced."""
    r = filled(rig())
    later = image(layer("two", 1000))
    for blob in later.blobs:
        r.fake.put_blob("a/b", blob)
    r.fake.put_manifest("a/b", later.manifest.raw, later.manifest.media_type)
    knowledge, lost = MemoryLedger(), []

    def fence() -> None:
        if lost:
            raise Lost("another worker has it now")

    context = Context(OneRegistry(), MemoryStore(), knowledge, FakeWatch())
    lane = Lane(context, "x/a/b:1", "old", 0, RegistryEnd(r.client, "a/b"))
    number = knowledge.lane_begin("x/a/b:1", "new")

    def put(reference: str, manifest: Manifest) -> None:
        r.client.put_manifest("a/b", reference, manifest)
        knowledge.lane_published("x/a/b:1", number, {"image": "new", "digest": str(later.digest)})
        lost.append(True)

    with Stopper(fence).bound():
        assert not lane.put("1", MANIFEST, put)
    assert r.fake.tag_lists["a/b"]["1"] == later.digest
