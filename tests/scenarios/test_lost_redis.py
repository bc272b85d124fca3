"""Redis loses everything in the middle of a migration: what the store knows is enough to end it well, once.

Whether the workers live through it or die with it, nothing that had arrived moves again, at neither end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.demo.servers import BeatScheduler, DockerRegistry, ThrottlingProxy, talk
from distworker.blobstore.local import LocalStore
from tests.images import Layout, Pushed, digest_at
from tests.scenarios.fleet import Fleet, wait_for
from tests.scenarios.traffic import blob_bytes, kept_blobs, uploads

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
IMAGES = 8
Ends = tuple[DockerRegistry, DockerRegistry]


@pytest.fixture
def scheduled(new_fleet: Callable[..., Fleet]) -> Iterator[Fleet]:
    """A fleet that looks for lost jobs and unkept reports every second."""
    fleet = new_fleet(more="[upkeep]\nreports = 1\nlost_jobs = 1\n")
    fleet.write()
    with BeatScheduler(fleet.folder, "s", fleet.settings):
        yield fleet


def pushed_images(folder: Path, repository: str) -> dict[str, Pushed]:
    """Tags of one repository, each with a layer of its own over a common one."""
    layout = Layout(folder / "layout")
    base = layout.layer("base", MIB, packed=False)
    for number in range(IMAGES):
        own = layout.layer(f"own{number}", MIB, packed=False)
        layout.tag(f"t{number}", layout.image([base, own], label=str(number)))
    return {f"t{n}": layout.push(f"t{n}", f"{repository}:t{n}") for n in range(IMAGES)}


def lose_redis(fleet: Fleet) -> None:
    """Every database of it."""
    assert talk(fleet.valkey.port, b"FLUSHALL\r\n").startswith(b"+OK")


@dataclass(frozen=True)
class Loss:
    """A migration in whose middle Redis came back empty; `kept` are the blobs that the store had then."""

    fleet: Fleet
    ends: Ends
    images: Mapping[str, Pushed]
    job: str
    kept: Mapping[str, int]

    def check(self) -> None:
        """The job ended well, every image is right, and what had arrived anywhere did not move again."""
        source, destination = self.ends
        view = self.fleet.until_over(self.job)
        assert (view["state"], view["images"]["total"]) == ("done", IMAGES), self.fleet.logs()
        for tag, image in self.images.items():
            assert digest_at(f"{destination.host}/app:{tag}") == image.digest
        blobs = {digest for image in self.images.values() for digest in image.blobs}
        read = blob_bytes(source)
        kept = {digest: size for digest, size in self.kept.items() if digest in blobs}
        assert {digest: read[digest] for digest in kept} == kept
        # Four slots: what they were just sending may have to be sent once more, and nothing else.
        assert len(blobs) <= uploads(destination) <= len(blobs) + 4


@contextmanager
def lost_in_the_middle(fleet: Fleet, ends: Ends, folder: Path, *, killed: bool) -> Iterator[Loss]:
    """A migration of all tags of a repository, half done, when Redis loses everything; with `killed` on the
    workers died just before."""
    source, destination = ends
    images = pushed_images(folder, f"{source.host}/app")
    with ThrottlingProxy(("127.0.0.1", source.port), rate=2 * MIB) as proxy:
        fleet.know(proxy.host)
        fleet.know(destination.host)
        fleet.start_workers(2, slots=2)
        pair = {"source": f"{proxy.host}/app", "destination": f"{destination.host}/app", "all_tags": True}
        job = fleet.migrate([pair], "--detach").events[0]["job"]
        wait_for(lambda: uploads(destination) >= 6, "some layers arrived")
        for worker in fleet.workers if killed else ():
            worker.kill9()
        lose_redis(fleet)
        kept = kept_blobs(LocalStore(fleet.folder / "store"))
        assert 0 < len(kept) < 2 * IMAGES, "it was in the middle"
        proxy.rate = 0
        yield Loss(fleet, ends, images, job, kept)


def test_recover_goes_on_with_a_migration(fleet: Fleet, ends: Ends, tmp_path: Path) -> None:
    """Nothing is left but store and registries: whoever asks for the job is told of recover, and it ends."""
    with lost_in_the_middle(fleet, ends, tmp_path, killed=True) as loss:
        asked = fleet.run("cancel", loss.job)
        assert (asked.code, f"distworker recover {loss.job}" in asked.err) == (2, True), asked.text

        said, again = fleet.run("recover"), fleet.run("recover", loss.job, "--json")

        assert said.out.splitlines() == [
            f"opened    {loss.job}  opened again, with its frozen list",
            "1 opened again",
        ]
        assert (again.code, again.events[0]["action"]) == (0, "known")
        for worker in fleet.workers:
            worker.start()
        loss.check()


def test_a_fleet_that_lives_through_it_heals_by_itself(scheduled: Fleet, ends: Ends, tmp_path: Path) -> None:
    """Nobody calls anything: the sweep finds the lost job, what was under way is superseded."""
    with lost_in_the_middle(scheduled, ends, tmp_path, killed=False) as loss:
        wait_for(lambda: scheduled.run("status", loss.job).code == 0, "the job is known again")
        loss.check()


def test_jobs_that_were_over_stopped_or_held_stay_so(scheduled: Fleet, ends: Ends, tmp_path: Path) -> None:
    """Closed and cancelled jobs are not run again; a paused one comes back paused, and ends when resumed."""
    fleet, (source, destination) = scheduled, ends
    images = pushed_images(tmp_path, f"{source.host}/app")
    for end in ends:
        fleet.know(end.host)
    fleet.start_workers(1)

    def copy(tag: str, *options: str) -> str:
        to = f"{destination.host}/app:{tag}"
        ran = fleet.run("copy", f"{source.host}/app:{tag}", to, "--json", *options)
        return str(ran.events[0]["job"])

    done = copy("t0")
    report = fleet.folder / f"store/default/jobs/{done}/closed.json"
    wait_for(report.exists, "its report is kept")
    assert fleet.run("pause", "--origin", source.host).code == 0
    stopped, held = copy("t1", "--detach"), copy("t2", "--detach")
    assert fleet.run("cancel", stopped).code == 0
    assert fleet.run("pause", held).code == 0

    lose_redis(fleet)
    wait_for(lambda: fleet.run("status", held).out.startswith(f"job     {held} paused"), "it is back")

    jobs = [event["job"] for event in fleet.run("status", "--json").events if event["event"] == "job"]
    assert jobs == [held], "the others were over"
    assert fleet.look(done)["images"]["done"] == 1, "known from its report"
    assert fleet.run("resume", held).code == 0
    assert fleet.run("resume", "--origin", source.host).out.endswith("goes on\n"), "its pause came back too"
    assert fleet.until_over(held)["images"]["done"] == 1
    assert digest_at(f"{destination.host}/app:t2") == images["t2"].digest
    stuck = fleet.run("stuck")
    assert (stuck.code, stuck.out) == (0, "nothing is stuck\n")
