"""An old and a new release side by side in one fleet, as in every rolling upgrade.

The new one is this tree with a higher version in every message, step and record that it writes. Nothing else
differs, so whatever goes wrong here goes wrong because a version was looked at.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from deploy.demo.servers import CeleryWorker, DockerRegistry, ThrottlingProxy
from distworker import names
from tests.images import Layout, digest_at, push_image
from tests.scenarios import fleet as fleets
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.traces import left_over

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
NEW = names.VERSION + 1
#: Runs before anything else reads the version.
AS_NEW = f"import sys; from distworker import names; names.VERSION = {NEW}; "


class NewWorker(CeleryWorker):
    """A worker of the next release."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        words = self._argv[self._argv.index("celery") + 1 :]
        code = AS_NEW + "sys.argv[0] = 'celery'; from celery.__main__ import main; main()"
        self._argv = [sys.executable, "-c", code, *words]


def test_an_upgrade_in_the_middle_of_jobs_loses_none(
    fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the new release wrote is left to it; what the old one wrote is read by it; every job is done."""
    source, destination = ends
    layout = Layout(tmp_path / "large")
    layout.tag("it", layout.image([layout.layer("large", 8 * MIB, packed=False)]))
    layout.push("it", f"{source.host}/large:1")
    for name in ("asked", "kept", "listed"):
        push_image(tmp_path, f"{source.host}/{name}:1", [name])
    with ThrottlingProxy(("127.0.0.1", source.port), rate=MIB // 2) as slow:
        for host in (slow.host, source.host, destination.host):
            fleet.know(host)
        fleet.start_workers(1)
        old = fleet.workers[0]

        # Given a job of the old release in the middle of its layer, and a request that only the new one reads
        pairs = [
            {"source": f"{slow.host}/{one}:1", "destination": f"{destination.host}/{one}:1"}
            for one in ("large", "listed")
        ]
        begun = fleet.migrate(pairs, "--detach").events[0]["job"]
        assert slow.wait_for(MIB), fleet.logs()
        slow.rate = MIB // 8
        request = {
            "v": NEW,
            "id": "asked",
            "source": f"{source.host}/asked:1",
            "destination": f"{destination.host}/asked:1",
        }
        with Celery("elsewhere", broker=fleet.valkey.url(0)) as app:
            app.conf.broker_transport_options = {"global_keyprefix": "distworker:"}
            app.send_task(names.SUBMIT_JOB, kwargs=request, queue=names.QUEUE_CONTROL, ignore_result=True)
        wait_for(lambda: f"waits in distworker.v{NEW}" in old.text(), "the old worker passes it on")

        # When a worker of the new release joins, and the new command line keeps an image in the store
        new = NewWorker(fleet.folder, "new", fleet.settings, concurrency=4)
        fleet.workers.append(new)
        new.start()
        with monkeypatch.context() as patched:
            patched.setattr(
                fleets,
                "COMMAND",
                (sys.executable, "-c", AS_NEW + "from distworker.cli.main import main; main()"),
            )
            kept = fleet.run("pull", f"{source.host}/kept:1", "--json")
        assert kept.done["state"] == "done", kept.text
        assert fleet.until_over("asked")["state"] == "done", fleet.logs()
        assert fleet.look(begun)["closed"] is None, "both releases were at work"

        # And the old one leaves
        old.signal(signal.SIGTERM)
        assert old.wait(within=60) == 0
        slow.rate = 0
        view = fleet.until_over(begun)

    # Then the new one ended what the old one had begun, and nothing was dropped or failed
    assert (view["state"], view["images"]["done"]) == ("done", 2), fleet.logs()
    for name in ("large", "listed", "asked"):
        assert digest_at(f"{destination.host}/{name}:1") == digest_at(f"{source.host}/{name}:1")
    assert "invalid_request" not in fleet.logs()
    assert "tries again" not in fleet.logs()
    assert left_over(fleet.valkey) == []
