"""An operator at work on a real fleet: a registry or a job is held and let go, what failed is run again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.demo.servers import DockerRegistry
from tests.images import digest_at
from tests.scenarios.site import Site, images, site
from tests.scenarios.traffic import blob_bytes

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, DockerRegistry]]:
    """One installation for all of them, with a second destination."""
    with site(tmp_path_factory.mktemp("office")) as made:
        second = made.registry()
        made.fleet.start_workers(1)
        yield made, second


@pytest.fixture
def office(ends: tuple[Site, DockerRegistry]) -> Site:
    """The installation."""
    return ends[0]


def test_a_paused_destination_holds_up_only_what_goes_there(ends: tuple[Site, DockerRegistry]) -> None:
    """The same job's images for the other one arrive; the rest follows when it is resumed."""
    office, held = ends
    fleet = office.fleet
    image = office.image("app", "paused")
    pairs = [
        office.pair(image.reference, "open"),
        office.pair(image.reference, "held", held),
    ]
    assert fleet.run("pause", "--origin", held.host).code == 0
    job = fleet.migrate(pairs, "--detach").events[0]["job"]

    view = fleet.until(job, lambda view: view["images"]["done"] == 1, "the open one is done")

    assert (view["state"], view["closed"]) == ("running", None)
    assert digest_at(f"{office.destination.host}/open:1") == image.digest
    stuck = fleet.run("stuck", "--json")
    assert stuck.code == 1
    assert ("paused", f"distworker resume --origin {held.host}") in [
        (event["state"], event["remedy"]) for event in stuck.events
    ]
    assert fleet.run("resume", "--origin", held.host).code == 0
    assert fleet.until_over(job)["images"]["done"] == 2
    assert digest_at(f"{held.host}/held:1") == image.digest


def test_a_retry_runs_only_what_failed(office: Site) -> None:
    """Of two images one was not there yet; the other is left alone, and nothing is read twice."""
    fleet = office.fleet
    good = office.image("good", "good")
    late = f"{office.source.host}/late:1"
    failed = fleet.migrate([office.pair(good.reference, "good"), office.pair(late, "late")], name="retry")
    assert (failed.code, images(failed)["late"]["error"]["code"]) == (1, "manifest_unknown"), failed.text
    job = failed.done["job"]
    before = dict(blob_bytes(office.source))
    pushed = office.image("late", "late")

    ran = fleet.run("retry", job, "--json")

    assert ran.code == 0, ran.text
    assert (ran.done["job"], ran.done["retry_of"], ran.done["images"]["total"]) == (f"{job}-retry1", job, 1)
    assert [event["state"] for event in images(ran).values()] == ["done"]
    assert digest_at(f"{office.destination.host}/late:1") == pushed.digest
    assert {d: n for d, n in blob_bytes(office.source).items() if d in good.blobs} == {
        d: n for d, n in before.items() if d in good.blobs
    }
    again = fleet.run("retry", f"{job}-retry1")
    assert (again.code, again.out) == (0, f"nothing failed in job {job}-retry1\n")


def test_a_paused_job_waits_for_its_operator(office: Site) -> None:
    """It can be cancelled as it is; a retry takes it up when it is asked for cancelled images."""
    fleet = office.fleet
    image = office.image("waits", "waits")
    assert fleet.run("pause", "--origin", office.source.host).code == 0
    job = fleet.migrate([office.pair(image.reference, "waits")], "--detach").events[0]["job"]
    paused = fleet.run("pause", job)
    assert (paused.code, paused.out.startswith(f"job {job} is paused")) == (0, True), paused.text
    assert fleet.run("resume", "--origin", office.source.host).code == 0

    cancelled = fleet.run("cancel", job)

    assert cancelled.out.startswith(f"job {job} cancelled: 0 done"), cancelled.text
    ran = fleet.run("retry", "--cancelled", job, "--json")
    assert (ran.code, ran.done["images"]["done"]) == (0, 1), ran.text
    assert digest_at(f"{office.destination.host}/waits:1") == image.digest
