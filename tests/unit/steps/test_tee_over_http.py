"""The tee over real sockets and the registry client of workers: what stands when a side misbehaves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from distworker.blobstore.keys import blob_key
from distworker.blobstore.memory import MemoryStore
from distworker.digest import Digest
from distworker.errors import DigestMismatch, Draining
from distworker.limits import MIB
from distworker.plan.build import download_spec, upload_spec
from distworker.plan.codec import dump_blob
from distworker.plan.model import BlobMove, Place
from distworker.registry.pool import RegistryPool
from distworker.registry.profiles import HostProfile
from distworker.registry.quirks import Quirks
from distworker.retrying import Backoff
from distworker.state.base import Claim
from distworker.state.memory import MemoryLedger
from distworker.steps import tee
from distworker.steps.base import Context, Done
from distworker.steps.download import download
from distworker.steps.upload import upload
from tests.fakes.ports import FakeWatch
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Answer, Twist

BLOB = bytes(range(256)) * 4096 * 9  # 9 MiB: more than the buffer between the two sides holds
DIGEST = Digest.of(BLOB)
KEY = blob_key("default", DIGEST)


@pytest.fixture
def source() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        server.put_blob("team/app", BLOB)
        yield server


@pytest.fixture
def target() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


def host(server: FakeRegistry) -> str:
    return server.url.removeprefix("http://")


@pytest.fixture
def context(source: FakeRegistry, target: FakeRegistry) -> Iterator[Context]:
    profiles = {host(server): HostProfile(plain_http=True, private=True) for server in (source, target)}
    pool = RegistryPool(profiles, backoff=Backoff(tries=2), sleep=lambda _: None, chunk=MIB)
    yield Context(pool, MemoryStore(), MemoryLedger(), FakeWatch())
    pool.close()


def claim(source: FakeRegistry, target: FakeRegistry) -> Claim:
    """A download with one upload waiting for it."""
    place = Place("registry", host(source), "team/app")
    destination = Place("registry", host(target), "copy/app")
    move = BlobMove("j1", "default", place, DIGEST, len(BLOB), destination=destination)
    step, upload = download_spec(move), upload_spec(move, destination, download=True)
    return Claim(step.id, "t1", "j1", step.body, 1, tee=(upload.id, dump_blob(move)))


def wait_until(holds: Callable[[], bool]) -> None:
    """The other side ends on its own time; a generous guard against a hang."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_pass_fills_store_and_destination(
    context: Context, source: FakeRegistry, target: FakeRegistry
) -> None:
    """The source serves the blob once, the destination takes it once."""
    answer = download(context, claim(source, target))
    assert isinstance(answer, Done)
    assert answer.change.delivered["teed"][1] == "copy/app"
    assert target.holds["copy/app"] == {DIGEST}
    assert (source.blobs_served[DIGEST], target.blobs_taken[DIGEST]) == (len(BLOB), len(BLOB))
    assert context.store.stat(KEY) is not None


def test_a_destination_that_wants_chunks_gets_the_one_pass_in_chunks(
    context: Context, source: FakeRegistry, target: FakeRegistry
) -> None:
    """A stream that exists once is cut into chunks as it comes; the source still serves the blob once."""
    quirks = Quirks(upload_mode="chunked", chunk_bytes=2 * MIB)
    profiles = {
        host(source): HostProfile(plain_http=True, private=True),
        host(target): HostProfile(plain_http=True, private=True, quirks=quirks),
    }
    with contextlib.closing(RegistryPool(profiles, sleep=lambda _: None, chunk=MIB)) as pool:
        answer = download(replace(context, registries=pool), claim(source, target))
    assert isinstance(answer, Done)
    assert answer.change.delivered["teed"][1] == "copy/app"
    assert target.count("PATCH") == 5
    assert (source.blobs_served[DIGEST], target.blobs_taken[DIGEST]) == (len(BLOB), len(BLOB))


def test_a_destination_that_takes_no_whole_put_is_left_to_the_upload_step(
    context: Context, source: FakeRegistry, target: FakeRegistry
) -> None:
    """The pass cannot be repeated in another way; that way is remembered for the step that sends from the
    store."""
    target.on("PUT", "/uploads/", Answer(413))
    answer = download(context, claim(source, target))
    assert isinstance(answer, Done)
    assert "teed" not in answer.change.delivered
    wait_until(lambda: any(request.method == "DELETE" for request in target.seen))
    place = Place("registry", host(target), "copy/app")
    move = BlobMove("j1", "default", Place("registry", host(source), "team/app"), DIGEST, len(BLOB))
    step = upload_spec(move, place, download=True)
    again = Claim(step.id, "t2", "j1", dump_blob(replace(move, destination=place, proven=True)), 1)
    target.seen.clear()
    assert isinstance(upload(context, again), Done)
    assert [one.method for one in target.seen if "/uploads/" in one.path][:2] == ["POST", "PATCH"]
    assert source.blobs_served[DIGEST] == len(BLOB)


def test_wrong_bytes_never_complete_the_upload(
    context: Context, source: FakeRegistry, target: FakeRegistry
) -> None:
    """The error is the source's; neither side shows anything, and the session is gone."""
    source.always("GET", "/blobs/", Twist(corrupt=len(BLOB) - 10))
    with pytest.raises(DigestMismatch):
        download(context, claim(source, target))
    wait_until(lambda: any(request.method == "DELETE" for request in target.seen))
    assert target.holds["copy/app"] == set()
    assert context.store.stat(KEY) is None


def test_a_destination_that_fails_does_not_hurt_the_download(
    context: Context, source: FakeRegistry, target: FakeRegistry
) -> None:
    """The blob is in the store; the upload step is left to send it."""
    target.always("PUT", "/uploads/", Answer(500, read=1000))
    answer = download(context, claim(source, target))
    assert isinstance(answer, Done)
    assert "teed" not in answer.change.delivered
    assert context.store.stat(KEY) is not None
    assert source.blobs_served[DIGEST] == len(BLOB)


def test_a_destination_that_stalls_is_cut(
    context: Context, source: FakeRegistry, target: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The download ends long before the stalled side does."""
    monkeypatch.setattr(tee, "STALL", 0.2)
    monkeypatch.setattr(tee, "COMMIT", 0.2)
    target.always("PUT", "/uploads/", Answer(500, read=1000, stall=30))
    answer = download(context, claim(source, target))
    assert isinstance(answer, Done)
    assert "teed" not in answer.change.delivered
    assert context.store.stat(KEY) is not None


def test_a_worker_that_drains_stops_both_sides(
    context: Context, source: FakeRegistry, target: FakeRegistry
) -> None:
    """Stopped between two chunks: nothing is visible anywhere, and the session is dropped."""
    watch = context.watch
    assert isinstance(watch, FakeWatch)
    moved = watch.moved

    def drain(total: int) -> None:
        moved(total)
        if total > len(BLOB) // 2:
            watch.stop = Draining("this worker is stopping")

    watch.moved = drain  # type: ignore[method-assign]
    with pytest.raises(Draining):
        download(context, claim(source, target))
    wait_until(lambda: any(request.method == "DELETE" for request in target.seen))
    assert target.holds["copy/app"] == set()
    assert context.store.stat(KEY) is None


def test_a_destination_that_has_the_blob_is_not_sent_it(
    context: Context, source: FakeRegistry, target: FakeRegistry
) -> None:
    """Its upload step will see that too and count nothing."""
    target.put_blob("copy/app", BLOB)
    answer = download(context, claim(source, target))
    assert isinstance(answer, Done)
    assert "teed" not in answer.change.delivered
    assert target.blobs_taken[DIGEST] == 0
