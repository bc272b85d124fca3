"""Ctrl-C of a copy on this machine, while the registry it reads from says nothing more."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry
from tests.fakes.content import image, layer
from tests.fakes.registry import FakeRegistry
from tests.fakes.registry_server import Twist
from tests.images import has
from tests.scenarios.fleet import Fleet, wait_for

pytestmark = pytest.mark.servers

#: Seconds; a socket alone would wait for a minute.
SOON = 45.0


def test_a_local_copy_leaves_a_silent_registry_at_once(
    fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """It says that the job was stopped, exits as interrupted, and the destination has no tag."""
    _, destination = ends
    with FakeRegistry() as source:
        made = image(layer("large", 2_000_000))
        for blob in made.blobs:
            source.put_blob("app", blob)
        source.put_manifest("app", made.manifest.raw, made.manifest.media_type, "1")
        large = f"/blobs/{made.manifest.layers[0].digest}"
        source.always("GET", large, Twist(cut=500_000, stall=600))
        fleet.know(source.host)
        fleet.know(destination.host)
        fleet.write()
        words = ("copy", "--local", "--store", str(tmp_path / "kept"))
        process = fleet.spawn(*words, f"{source.host}/app:1", f"{destination.host}/app:1")
        wait_for(lambda: source.count("GET", large) == 1, "the layer is being read")

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SOON)

        assert process.returncode == 130, out + err
        assert "was stopped; run it again to go on" in err
        assert "Traceback" not in err
        assert not has(f"{destination.host}/app:1")
