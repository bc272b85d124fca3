"""A worker dies by kill -9 in the middle of a large layer: the job ends well without anybody's help."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.demo.servers import CeleryWorker, DockerRegistry, ThrottlingProxy
from distworker.blobstore.base import BlobStore
from distworker.blobstore.local import LocalStore
from distworker.blobstore.s3 import S3Store
from tests.images import LAYER, Layout, Pushed, digest_at
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.traffic import blob_bytes, kept_blobs, ours, writes

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
SIZE = 128 * MIB
KILL_AFTER = 50 * MIB
#: Slow enough that the worker is found and killed in the middle, fast enough for a test.
RATE = 20 * MIB
#: Bytes that a kill lets be read twice at most: on S3 the parts since the last record (four of 8 MiB, one on
#: its way), anywhere what was on its way through sockets and the proxy.
LOST = {"folder": 16 * MIB, "S3": 56 * MIB}


@pytest.fixture(params=["folder", "S3"])
def installation(request: pytest.FixtureRequest) -> tuple[Fleet, BlobStore, int]:
    """A fleet, a second view of its store, and the bytes that a kill may cost there."""
    if request.param == "folder":
        fleet: Fleet = request.getfixturevalue("fleet")
        return fleet, LocalStore(fleet.folder / "store"), LOST[request.param]
    store: S3Store = request.getfixturevalue("s3_store")
    return request.getfixturevalue("s3_fleet"), store, LOST[request.param]


def large_image(folder: Path, reference: str) -> tuple[Pushed, str]:
    """An image with one layer of random bytes, pushed; and that layer's digest."""
    layout = Layout(folder / "layout")
    layer = layout.blob(random.Random("large").randbytes(SIZE), LAYER)
    layout.tag("it", layout.image([layer]))
    return layout.push("it", reference), layer["digest"]


def worker_of(fleet: Fleet, view: dict[str, Any], digest: str) -> CeleryWorker:
    """The worker that runs the download of that layer."""
    names = [step["worker"] for step in view["running"] if step["step"] == f"d:default/{digest}"]
    assert len(names) == 1, f"one worker downloads the layer: {view}"
    return next(worker for worker in fleet.workers if f"-{worker.pid}-" in names[0])


def test_a_killed_worker_costs_only_the_bytes_that_were_on_their_way(
    installation: tuple[Fleet, BlobStore, int],
    ends: tuple[DockerRegistry, DockerRegistry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next one goes on where the layer stood. The image is right, the store holds whole blobs only."""
    fleet, store, lost = installation
    source, destination = ends
    image, layer = large_image(tmp_path, f"{source.host}/app:1")
    target = f"{destination.host}/mirror/app:1"
    with ThrottlingProxy(("127.0.0.1", source.port), rate=RATE) as proxy:
        fleet.know(proxy.host)
        fleet.know(destination.host)
        fleet.start_workers(2)
        # Given a worker that is past the first quarter of the layer
        job = fleet.run("copy", f"{proxy.host}/app:1", target, "--detach", "--json").events[0]["job"]
        assert proxy.wait_for(KILL_AFTER), fleet.logs()
        victim = worker_of(fleet, fleet.look(job), layer)

        # When it is killed
        victim.kill9()
        killed, read = time.time(), proxy.down

        # Then the other one brings the job to its end
        view = fleet.until_over(job)
    with capsys.disabled():
        seconds = view["closed"] - killed
        print(f"\nkill -9 after {read // MIB} MiB: the job was over {seconds:.1f} s later (goal 30 s)")
    assert read < SIZE, "it was killed in the middle"
    assert view["state"] == "done", fleet.logs()
    assert digest_at(target) == image.digest
    served = blob_bytes(source)[layer]
    with capsys.disabled():
        print(f"read twice from the source: {(served - SIZE) / MIB:.1f} MiB (at most {lost // MIB})")
    assert SIZE <= served <= SIZE + lost, f"{served} bytes of the layer were read from the source"
    assert [one.status for one in ours(source, "GET", f"/blobs/{layer}")][-1] == 206
    assert blob_bytes(destination).get(layer) is None, "the destination was not asked to give it back"
    assert kept_blobs(store) == {**image.blobs, **image.manifests}
    # What the dead run had begun became the blob: nothing of it is left.
    assert not list(store.unfinished())
    assert not list(store.list("default/staging/"))


def test_the_upload_session_of_a_killed_worker_is_taken_back(
    new_fleet: Callable[..., Fleet], ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """Killed while a layer is on its way to the destination: whoever takes the upload next finds the session
    in Redis, cancels it at the registry, and nothing of it is left in either."""
    fleet = new_fleet(more='token_secret = "a-secret-that-the-fleet-shares"\n')
    source, destination = ends
    layout = Layout(tmp_path / "layout")
    layer = layout.blob(random.Random("sent").randbytes(40 * MIB), LAYER)
    layout.tag("it", layout.image([layer]))
    image = layout.push("it", f"{source.host}/app:1")
    with ThrottlingProxy(("127.0.0.1", destination.port), rate=RATE / 2) as proxy:
        fleet.know(source.host)
        fleet.know(proxy.host)
        fleet.start_workers(2)
        target = f"{proxy.host}/mirror/app:1"
        job = fleet.run("copy", f"{source.host}/app:1", target, "--detach", "--json").events[0]["job"]
        wait_for(lambda: proxy.up > 10 * MIB, "a quarter of the layer is sent")
        view = fleet.look(job)
        [worker] = {step["worker"] for step in view["running"] if layer["digest"] in step["step"]}

        next(one for one in fleet.workers if f"-{one.pid}-" in worker).kill9()

        view = fleet.until_over(job)
        assert view["state"] == "done", fleet.logs()
    assert digest_at(f"{destination.host}/mirror/app:1") == image.digest
    cancelled = [
        line for line in writes(destination) if line.startswith("DELETE /v2/mirror/app/blobs/uploads/")
    ]
    assert cancelled, "the dead run's session was cancelled"
    with redis.Redis.from_url(fleet.valkey.url(0), decode_responses=True) as client:
        assert [key for key in client.scan_iter("dw:*") if "dw:us:" in key or key == "dw:sessions"] == []
