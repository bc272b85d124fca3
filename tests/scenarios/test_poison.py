"""A blob that kills each worker that touches it: the fleet gets over it, and only its image fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.servers import CeleryWorker, DockerRegistry
from distworker.state.rules import Rules
from tests.images import digest_at, push_image
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.site import images
from tests.scenarios.traces import left_over

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

#: Runs before the worker: each download of that blob ends the process as a crash in a native library would.
DEADLY = """
import os, signal, sys
from distworker import names
from distworker.steps import table
real = table.STEPS[names.DOWNLOAD]
def deadly(context, claim):
    if claim.body["digest"] == {digest!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(context, claim)
table.STEPS = {{**table.STEPS, names.DOWNLOAD: deadly}}
sys.argv[0] = "celery"
from celery.__main__ import main
main()
"""


class DyingWorker(CeleryWorker):
    """A worker that one blob kills."""

    def __init__(self, digest: str, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        words = self._argv[self._argv.index("celery") + 1 :]
        self._argv = [sys.executable, "-c", DEADLY.format(digest=digest), *words]


def test_a_step_that_kills_its_workers_ends_as_a_failure_and_the_rest_arrives(
    fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """After five deaths it is `worker_lost`; the old tag stands and the other image is there."""
    source, destination = ends
    for end in ends:
        fleet.know(end.host)
    poison = push_image(tmp_path, f"{source.host}/poison:1", ["poison"])
    push_image(tmp_path, f"{source.host}/good:1", ["good"])
    old = push_image(tmp_path, f"{destination.host}/poison:1", ["old"])
    worker = DyingWorker(next(iter(poison.blobs)), fleet.folder, "dying", fleet.settings, concurrency=4)
    fleet.workers.append(worker)
    fleet.write()
    worker.start()
    deaths = 0

    pairs = [
        {"source": f"{source.host}/{name}:1", "destination": f"{destination.host}/{name}:1"}
        for name in ("poison", "good")
    ]
    job = fleet.migrate(pairs, "--detach").events[0]["job"]

    def over() -> bool:
        nonlocal deaths
        if not worker.running:
            deaths += 1
            worker.kill9()
            worker.start()
        return bool(fleet.look(job)["state"] == "failed")

    wait_for(over, "the job is over", within=300.0, every=0.5)
    ran = fleet.run("status", job, "--json")
    ended = images(ran)
    assert ended["poison"]["error"]["code"] == "worker_lost", ran.text
    assert ended["good"]["state"] == "done"
    assert deaths == Rules().attempts
    assert digest_at(f"{destination.host}/poison:1") == old.digest
    wait_for(lambda: not left_over(fleet.valkey), "no slot, lease or barrier is left")
