"""A worker is told to stop in the middle of a large layer: it hands its work over and goes."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry, ThrottlingProxy
from tests.images import LAYER, Layout, digest_at
from tests.scenarios.fleet import Fleet

pytestmark = pytest.mark.servers

MIB = 1024 * 1024


def test_a_stopped_worker_hands_its_layer_over_at_once(
    fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """It neither finishes the layer first nor leaves it to a lease that runs out; no attempt is charged."""
    source, destination = ends
    layout = Layout(tmp_path / "layout")
    layout.tag("it", layout.image([layout.blob(random.Random("stop").randbytes(40 * MIB), LAYER)]))
    image = layout.push("it", f"{source.host}/app:1")
    target = f"{destination.host}/mirror/app:1"
    with ThrottlingProxy(("127.0.0.1", source.port), rate=4 * MIB) as proxy:
        fleet.know(proxy.host)
        fleet.know(destination.host)
        # Given one worker in the middle of the layer, and another one that is free
        fleet.start_workers(1)
        job = fleet.run("copy", f"{proxy.host}/app:1", target, "--detach", "--json").events[0]["job"]
        assert proxy.wait_for(4 * MIB), fleet.logs()
        fleet.start_workers(1)

        # When the first is told to stop, as systemd and Kubernetes do it
        leaver = fleet.workers[0]
        leaver.signal(signal.SIGTERM)
        code = leaver.wait(within=60)
        read = proxy.down

        # Then it is gone while the layer is still under way, and the other one ends the job
        assert code == 0, leaver.tail(40)
        assert read < 40 * MIB, "it did not stay until the layer was there"
        view = fleet.until_over(job)
    assert view["state"] == "done", fleet.logs()
    assert digest_at(target) == image.digest
    assert "given back" in leaver.text()
    assert "tries again" not in fleet.logs()
