"""A cancel reaches a run where it waits: for a registry that went silent, in an upload, in both at once.

The layers are large and the ways slow, so that each run is in the middle for as long as the test likes. How
long a cancel took is printed; the ledger hears of it at once, a worker with its next beat, 4 s at most.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry, ThrottlingProxy
from tests.images import Layout, Pushed, digest_at, push_image
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.traces import left_over
from tests.scenarios.traffic import blob_bytes, ours

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
CRAWL = 512 * 1024
LARGE = 24 * MIB


def image_of(folder: Path, reference: str, *seeds: str) -> Pushed:
    """An image with a large layer for each seed."""
    layout = Layout(folder / reference.replace("/", "-").replace(":", "-"))
    layers = [layout.layer(seed, LARGE, packed=False) for seed in seeds]
    layout.tag("it", layout.image(layers, label=reference))
    return layout.push("it", reference)


def cancelled(fleet: Fleet, job: str, runs: int) -> float:
    """Cancel the job; returns the seconds until its `runs` running steps had ended in their worker."""
    ended = fleet.logs().count("superseded: ")
    begun = time.monotonic()
    assert fleet.run("cancel", job).code == 0
    wait_for(lambda: fleet.logs().count("superseded: ") >= ended + runs, "its runs end")
    return time.monotonic() - begun


def test_a_cancel_ends_uploads_and_silent_downloads(
    fleet: Fleet,
    ends: tuple[DockerRegistry, DockerRegistry],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Slots come free, sessions are taken back, old tags stand, and the next job gets the same layers."""
    source, destination = ends
    stored, teed = (image_of(tmp_path, f"{source.host}/{name}:1", name) for name in ("stored", "teed"))
    silent = image_of(tmp_path, f"{source.host}/silent:1", "one", "two")
    names = ("stored", "teed", "silent")
    old = {name: push_image(tmp_path, f"{destination.host}/{name}:1", ["old"]) for name in names}
    with (
        ThrottlingProxy(("127.0.0.1", destination.port), rate=CRAWL) as there,
        ThrottlingProxy(("127.0.0.1", source.port), rate=CRAWL) as here,
    ):
        for host in (source.host, destination.host, here.host, there.host):
            fleet.know(host)
        fleet.start_workers(1, slots=6)
        assert fleet.run("pull", f"{source.host}/stored:1").code == 0

        def under_way(name: str, origin: str, target: str) -> str:
            """Start a copy and wait until its large layer is on its way; returns the job."""
            begun = there.up + here.down
            job = fleet.run("copy", f"{origin}/{name}:1", f"{target}/{name}:1", "--detach", "--json")
            wait_for(lambda: there.up + here.down > begun + MIB, f"{name} is on its way")
            return str(job.events[0]["job"])

        def taken_back(name: str) -> bool:
            """Did the registry hear that the upload of the layer is over?"""
            return len(ours(destination, "DELETE", f"/{name}/blobs/uploads/")) >= 1

        # An upload from the store, and a pass that reads and sends at once
        upload = cancelled(fleet, under_way("stored", source.host, there.host), 1)
        wait_for(lambda: taken_back("stored"), "the session is taken back")
        tee = cancelled(fleet, under_way("teed", source.host, there.host), 1)
        wait_for(lambda: taken_back("teed"), "the session is taken back")
        layer = max(teed.blobs, key=lambda one: teed.blobs[one])
        assert blob_bytes(source)[layer] < LARGE, "reading ended with it"

        # Two layers from a registry that goes silent
        job = under_way("silent", here.host, destination.host)
        source.freeze()
        time.sleep(1)  # what is on its way arrives
        silence = cancelled(fleet, job, 2)
        assert fleet.until_over(job)["state"] == "cancelled"
        source.thaw()
    with capsys.disabled():
        print(f"\ncancelled after: upload {upload:.1f} s, tee {tee:.1f} s, silent registry {silence:.1f} s")

    # Nothing of the cancelled jobs is left, and their layers still go where they are wanted
    assert {name: digest_at(f"{destination.host}/{name}:1") for name in names} == {
        name: image.digest for name, image in old.items()
    }
    assert left_over(fleet.valkey) == []
    assert "tries again" not in fleet.logs()
    pairs = [
        {"source": f"{source.host}/{name}:1", "destination": f"{destination.host}/{name}:2"} for name in names
    ]
    assert fleet.migrate(pairs).done["state"] == "done", fleet.logs()
    assert [digest_at(f"{destination.host}/{name}:2") for name in names] == [
        image.digest for image in (stored, teed, silent)
    ]
