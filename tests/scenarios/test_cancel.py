"""Stopping a job, and leaving one: cancel ends it at the next chunk, Ctrl-C only ends the watching."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.servers import DockerRegistry, ThrottlingProxy
from tests.images import Layout, digest_at, push_image
from tests.scenarios.fleet import GUARD, Fleet, wait_for
from tests.scenarios.traffic import blob_bytes, ours, uploads

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
#: Nothing large gets through at this rate (bytes/s) while a test looks; small requests still do.
CRAWL = 512 * 1024
Ends = tuple[DockerRegistry, DockerRegistry]


@pytest.fixture
def slow(ends: Ends) -> Iterator[ThrottlingProxy]:
    """A slow way to the source."""
    with ThrottlingProxy(("127.0.0.1", ends[0].port), rate=CRAWL) as proxy:
        yield proxy


def test_a_cancelled_job_stops_at_once_and_takes_nothing_with_it(
    fleet: Fleet, ends: Ends, slow: ThrottlingProxy, tmp_path: Path
) -> None:
    """Its own layer stops and frees its slot, its tag stays, the layer it shared goes on for the other."""
    source, destination = ends
    # Given two slots at the source, both taken: by a layer that two jobs want, and by one of the first alone
    layout = Layout(tmp_path / "layout")
    shared = layout.layer("shared", 32 * MIB, packed=False)
    own = layout.layer("own", 64 * MIB, packed=False)
    layout.tag("both", layout.image([shared, own], label="first"))
    layout.tag("one", layout.image([shared], label="second"))
    layout.push("both", f"{source.host}/first:1")
    second = layout.push("one", f"{source.host}/second:1")
    third = push_image(tmp_path, f"{source.host}/third:1", ["a", "b", "c"])
    target = f"{destination.host}/first:1"
    old = push_image(tmp_path, target, ["old"])
    fleet.know(slow.host, max_concurrency=2)
    fleet.know(destination.host)
    fleet.start_workers(2)
    watched = fleet.spawn("copy", f"{slow.host}/first:1", target, "--json")
    assert watched.stdout is not None
    first = json.loads(watched.stdout.readline())["job"]
    fleet.until(first, lambda view: len(downloads(view)) == 2, "both layers are on their way")
    words = ("copy", f"{slow.host}/second:1", f"{destination.host}/second:1", "--detach", "--json")
    other = fleet.run(*words).events[0]["job"]
    wait_for(lambda: f"step=p:{other}-0" in fleet.logs(), "the second job waits for the shared layer")

    # When the first job is cancelled
    said = fleet.run("cancel", first, "--json")
    view = fleet.until(first, lambda view: view["closed"] is not None and not view["running"], "its end")
    out, err = watched.communicate(timeout=GUARD)

    # Then its own layer was broken off, and the slot serves a third job while the shared layer goes on
    assert said.code == 0, said.text
    assert said.events[0]["state"] in {"cancelling", "cancelled"}
    assert view["state"] == "cancelled"
    assert view["images"]["cancelled"] == 1
    assert watched.returncode == 1, err
    assert '"state": "cancelled"' in out
    wait_for(lambda: bool(ours(source, "GET", own["digest"])), "its own layer stopped")
    ran = fleet.run("copy", f"{slow.host}/third:1", f"{destination.host}/third:1", "--json")
    assert ran.code == 0, ran.text
    assert digest_at(f"{destination.host}/third:1") == third.digest
    assert fleet.look(other)["closed"] is None, "the shared layer was still on its way"
    slow.rate = 0
    assert fleet.until_over(other)["state"] == "done", fleet.logs()
    assert digest_at(f"{destination.host}/second:1") == second.digest
    assert digest_at(target) == old.digest, "the tag of the cancelled job is what it was"
    assert blob_bytes(source)[own["digest"]] < own["size"]
    assert blob_bytes(source)[shared["digest"]] == shared["size"], "read once, though its first owner left"
    again = fleet.run("cancel", first)
    assert (again.code, "was over already" in again.out) == (0, True), again.text


def downloads(view: dict[str, Any]) -> list[dict[str, Any]]:
    """The running downloads of a job."""
    return [step for step in view["running"] if step["verb"] == "download"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "TERM"])
def test_leaving_a_copy_leaves_the_job_running(
    number: signal.Signals, fleet: Fleet, ends: Ends, slow: ThrottlingProxy, tmp_path: Path
) -> None:
    """The first Ctrl-C prints the job's id and how to follow and cancel it; the job ends well without us."""
    source, destination = ends
    layout = Layout(tmp_path / "layout")
    layout.tag("it", layout.image([layout.layer("large", 16 * MIB, packed=False)]))
    image = layout.push("it", f"{source.host}/app:1")
    fleet.know(slow.host)
    fleet.know(destination.host)
    fleet.start_workers(1)
    target = f"{destination.host}/app:1"
    process = fleet.spawn("copy", f"{slow.host}/app:1", target)
    assert slow.wait_for(MIB), fleet.logs()

    process.send_signal(number)
    out, err = process.communicate(timeout=GUARD)

    job = fleet.run("status", "--json").events[0]["job"]
    assert process.returncode == 130, out + err
    assert f"detached: job {job} goes on without this terminal" in err
    assert f"distworker status {job} --follow" in err
    assert f"distworker cancel {job}" in err
    assert "Traceback" not in err
    assert fleet.look(job)["state"] == "running"
    assert uploads(destination) <= 1, "at most the config"
    slow.rate = 0
    assert fleet.run("status", job, "--follow").code == 0
    assert digest_at(target) == image.digest
