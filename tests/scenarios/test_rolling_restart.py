"""Every worker is restarted in turn while a migration runs: no image is lost, no attempt charged.

Each is told to stop as systemd, Kubernetes and people in a hurry do it: once, twice, and with SIGQUIT.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry, ThrottlingProxy
from tests.images import Layout, Pushed, digest_at
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.traces import left_over
from tests.scenarios.traffic import blob_bytes

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
SIZE = 3 * MIB
NAMES = [f"app{number}" for number in range(10)]
#: What each of the three workers is sent.
STOPS = ([signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM], [signal.SIGQUIT])


def image_of(folder: Path, reference: str) -> Pushed:
    """An image with a layer of its own that takes a second."""
    layout = Layout(folder / reference.rpartition("/")[2].partition(":")[0])
    layout.tag("it", layout.image([layout.layer(reference, SIZE, packed=False)], label=reference))
    return layout.push("it", reference)


def test_a_migration_outlives_a_rolling_restart(
    fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """What was in flight is read again at most, and everything arrives."""
    source, destination = ends
    images = {name: image_of(tmp_path, f"{source.host}/{name}:1") for name in NAMES}
    with ThrottlingProxy(("127.0.0.1", source.port), rate=1.5 * MIB) as slow:
        fleet.know(slow.host)
        fleet.know(destination.host)
        fleet.start_workers(3, slots=2)
        pairs = [
            {"source": f"{slow.host}/{name}:1", "destination": f"{destination.host}/{name}:1"}
            for name in NAMES
        ]
        job = fleet.migrate(pairs, "--detach").events[0]["job"]
        for worker, numbers in zip(fleet.workers, STOPS, strict=True):
            read = slow.down
            wait_for(lambda: slow.down > read + MIB, "layers are on their way")  # noqa: B023 - asked at once
            for number in numbers:
                worker.signal(number)
            code = worker.wait(within=60)
            assert code == 0, (numbers, worker.tail(40))
            assert "given back for 0 s: draining" in worker.text(), (numbers, worker.tail(40))
            assert slow.down < len(NAMES) * SIZE, "it left in the middle of the job"
            worker.start()
        slow.rate = 0
        view = fleet.until_over(job)
    assert (view["state"], view["images"]["done"]) == ("done", len(NAMES)), fleet.logs()
    assert {name: digest_at(f"{destination.host}/{name}:1") for name in NAMES} == {
        name: image.digest for name, image in images.items()
    }
    log = fleet.logs()
    assert "tries again" not in log
    assert "superseded: the step" not in log, "every end of a run was told by the worker that ran it"
    assert "Traceback" not in log
    handed_over = log.count("given back for 0 s: draining")
    assert handed_over, "some layers were in flight"
    served = sum(blob_bytes(source).values())
    assert served <= sum(image.total for image in images.values()) + handed_over * (SIZE + MIB)
    assert left_over(fleet.valkey) == []
