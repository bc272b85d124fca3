"""A worker is frozen for three leases and wakes up among those who went on without it.

It was in the middle of four steps: reading a layer, before the PUT of a tag, with that PUT on its way, and
with its answer. Others ended all four, and a later job moved the tags on.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deploy.demo.servers import DockerRegistry, ThrottlingProxy
from distworker.state.rules import Rules
from tests.fakes.holding_proxy import HoldingProxy
from tests.images import Layout, Pushed, digest_at, push_image
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.traces import left_over
from tests.scenarios.traffic import blob_bytes

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
TAGS = ("before", "underway", "answered")


def large_image(folder: Path, reference: str) -> Pushed:
    """An image with one layer that takes a while."""
    layout = Layout(folder / "large")
    layout.tag("it", layout.image([layout.layer("large", 12 * MIB, packed=False)]))
    return layout.push("it", reference)


def test_a_worker_that_wakes_up_publishes_nothing_stale_and_takes_nothing_back(
    fleet: Fleet, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """Tags, counters, slots and its successor's uploads are what they would be without it."""
    source, destination = ends
    large = large_image(tmp_path, f"{source.host}/large:1")
    older = {tag: push_image(tmp_path, f"{source.host}/{tag}:1", [f"old-{tag}"]) for tag in TAGS}
    newer = {tag: push_image(tmp_path, f"{source.host}/{tag}:2", [f"new-{tag}"]) for tag in TAGS}
    with (
        ThrottlingProxy(("127.0.0.1", source.port), rate=MIB) as slow,
        HoldingProxy(destination.port) as proxy,
    ):
        for host in (source.host, slow.host, proxy.host):
            fleet.know(host)
        fleet.start_workers(1, slots=6)
        by_digest = f"/v2/before/manifests/{older['before'].digest}"
        before = proxy.hold("PUT", by_digest, sent=True)
        underway = proxy.hold("PUT", "/v2/underway/manifests/it", sent=False)
        answered = proxy.hold("PUT", "/v2/answered/manifests/it", sent=True)

        # Given one worker in the middle of four steps
        pairs = [
            {"source": f"{source.host}/{tag}:1", "destination": f"{proxy.host}/{tag}:it"} for tag in TAGS
        ]
        pairs.append({"source": f"{slow.host}/large:1", "destination": f"{proxy.host}/large:it"})
        first = fleet.migrate(pairs, "--detach").events[0]["job"]
        holds = (before, underway, answered)
        wait_for(lambda: all(hold.arrived() for hold in holds), "all three tags are on their way")
        assert slow.wait_for(2 * MIB), fleet.logs()

        # When it is frozen, another one ends the job, and a later job moves the tags on
        sleeper, frozen = fleet.workers[0], time.monotonic()
        sleeper.freeze()
        slow.rate = 0
        fleet.start_workers(1, slots=6)
        view = fleet.until_over(first)
        assert (view["state"], view["images"]["done"]) == ("done", 4), fleet.logs()
        pairs = [
            {"source": f"{source.host}/{tag}:2", "destination": f"{proxy.host}/{tag}:it"} for tag in TAGS
        ]
        second = fleet.migrate(pairs, name="later").done
        assert second["state"] == "done", fleet.logs()

        # And it wakes up after three leases, one of its tags having arrived in the meantime
        underway.release()
        wait_for(
            lambda: digest_at(f"{proxy.host}/underway:it") == older["underway"].digest,
            "the tag that was on its way moved the later one back",
        )
        time.sleep(max(0.0, 3 * Rules().lease - (time.monotonic() - frozen)))
        sleeper.thaw()
        before.release()
        answered.release()

        # Then it finds each of its steps gone and the tags are the later job's
        wait_for(lambda: sleeper.text().count("superseded: ") >= 4, "it gives up all four")
        tags = {tag: digest_at(f"{proxy.host}/{tag}:it") for tag in TAGS}
    assert tags == {tag: image.digest for tag, image in newer.items()}
    assert digest_at(f"{destination.host}/large:it") == large.digest
    assert "Traceback" not in fleet.logs()
    assert left_over(fleet.valkey) == [], "no slot, lease or barrier of anybody is left"
    view = fleet.look(first)
    sizes = large.total + sum(image.total for image in older.values())
    assert view["moved"]["downloaded"] + sum(view["saved"].values()) == sizes
    assert (view["state"], view["images"]["done"], view["images"]["failed"]) == ("done", 4, 0)
    again = max(large.blobs, key=lambda one: large.blobs[one])
    assert blob_bytes(source)[again] <= 2 * large.blobs[again]
