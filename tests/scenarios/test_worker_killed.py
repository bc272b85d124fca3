"""A worker dies by kill -9 in the middle of a large layer: the job ends well without anybody's help."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.servers import CeleryWorker, DockerRegistry, ThrottlingProxy
from distworker.blobstore.base import BlobStore
from distworker.blobstore.local import LocalStore
from distworker.blobstore.s3 import S3Store
from tests.images import LAYER, Layout, Pushed, digest_at
from tests.scenarios.fleet import Fleet
from tests.scenarios.traffic import blob_bytes, kept_blobs

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
SIZE = 200 * MIB
KILL_AFTER = 50 * MIB
#: Slow enough that the worker is found and killed in the middle, fast enough for a test.
RATE = 20 * MIB


@pytest.fixture(params=["folder", "S3"])
def installation(request: pytest.FixtureRequest) -> tuple[Fleet, BlobStore]:
    """A fleet and a second view of its store."""
    if request.param == "folder":
        fleet: Fleet = request.getfixturevalue("fleet")
        return fleet, LocalStore(fleet.folder / "store")
    store: S3Store = request.getfixturevalue("s3_store")
    return request.getfixturevalue("s3_fleet"), store


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


def test_a_killed_worker_costs_at_most_one_more_reading_of_the_layer(
    installation: tuple[Fleet, BlobStore],
    ends: tuple[DockerRegistry, DockerRegistry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No byte of the dead run shows anywhere: the image is right, the store holds whole blobs only."""
    fleet, store = installation
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
    assert SIZE < served <= 2 * SIZE, f"{served} bytes of the layer were read from the source"
    assert blob_bytes(destination).get(layer) is None, "the destination was not asked to give it back"
    kept = kept_blobs(store)
    assert kept == {**image.blobs, **image.manifests}
    # What the dead run had begun is listed for the sweep, belongs to nobody alive, and can be taken back.
    left = list(store.unfinished())
    assert [write.key.rpartition("/")[2] for write in left] == [layer.partition(":")[2]]
    store.discard(left[0])
    assert not list(store.unfinished())
    assert kept_blobs(store) == kept
