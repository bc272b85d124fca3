"""The counters add up: what an image is made of was either read for it or saved, each byte once.

`downloaded` and the four `saved_*` together are the sizes of the unique blobs of all images that were copied
(see `JobView`); each test here is one situation in which two of them could count the same byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from distworker.digest import Digest
from distworker.plan.model import Pair
from distworker.state.base import COUNTERS
from tests.fakes.content import Image, image, index, layer, put
from tests.fakes.ports import Run, Site, registry_place, store_place

BASE, APP, TOOL, SMALL = layer("base"), layer("app"), layer("tool"), layer("small", 200)
SOURCE, TARGET, OTHER = "src.example", "dst.example", "other.example"

#: Repository and tag → image. Layers shared across repositories and inside one, an index, a small layer.
CONTENT: Mapping[tuple[str, str], Image] = {
    ("team/app", "1"): image(BASE, APP, SMALL),
    ("team/app", "2"): image(BASE, TOOL, config=b'{"n":2}'),
    ("team/tool", "1"): image(BASE, TOOL, SMALL, config=b'{"n":3}'),
    ("team/multi", "1"): index(
        (image(BASE, APP, config=b'{"n":4}'), "linux/amd64"),
        (image(BASE, SMALL, config=b'{"n":5}'), "linux/arm64"),
    ),
}


@pytest.fixture
def run() -> Run:
    run = Run(Site(SOURCE), Site(TARGET), Site(OTHER))
    for (repository, tag), content in CONTENT.items():
        put(run.sites[SOURCE], repository, tag, content)
    return run


def pairs(to: str = TARGET, only: Sequence[str] = ()) -> list[Pair]:
    return [
        Pair(registry_place(SOURCE, repository, tag), registry_place(to, repository))
        for repository, tag in CONTENT
        if not only or repository in only
    ]


def blobs(content: Image) -> dict[str, int]:
    """Its unique blobs with their sizes."""
    found = {str(Digest.of(data)): len(data) for data in content.blobs}
    for child in content.children:
        found |= blobs(child)
    return found


def sizes(only: Sequence[str] = ()) -> int:
    """What all the images are made of, blob by blob and image by image."""
    return sum(
        sum(blobs(content).values()) for (name, _), content in CONTENT.items() if not only or name in only
    )


def finished(run: Run, job: str, *wanted: Pair) -> Mapping[str, int]:
    """The counters of a job whose images are all done."""
    outcomes = run.job(job, *wanted)
    assert {outcome["state"] for outcome in outcomes} == {"done"}, outcomes
    assert len(outcomes) == len(wanted)
    return run.counters(job)


def saved(counters: Mapping[str, int]) -> int:
    return sum(amount for name, amount in counters.items() if name.startswith("saved_"))


def test_a_first_run_with_shared_layers_adds_up(run: Run) -> None:
    """Every blob is read once, the rest is saved."""
    counters = finished(run, "j1", *pairs())
    unique = {digest: size for content in CONTENT.values() for digest, size in blobs(content).items()}
    assert counters["downloaded"] == counters["uploaded"] == sum(unique.values())
    assert counters["downloaded"] + saved(counters) == sizes()
    assert counters["layers"] == len(unique)


def test_refused_mounts_are_not_saved_twice(run: Run) -> None:
    """What was shared and then could not be mounted is sent again: more is uploaded, nothing is counted
    twice."""
    run.sites[TARGET].refuse_mounts = True
    counters = finished(run, "j1", *pairs())
    assert counters["uploaded"] > counters["downloaded"]
    assert counters["downloaded"] + saved(counters) == sizes()


def test_a_destination_that_lost_everything_is_filled_from_the_store(run: Run) -> None:
    """Nothing is read, all is sent, and a byte from the store is not also a shared one."""
    finished(run, "j1", *pairs())
    run.sites[TARGET].repositories.clear()
    run.now += 7200  # the hints of the first run are forgotten
    counters = finished(run, "j2", *pairs())
    assert counters["downloaded"] == 0
    assert counters["saved_stored"] == counters["uploaded"]
    assert saved(counters) == sizes()


def test_one_lost_repository_is_mounted_from_the_others(run: Run) -> None:
    """What no other repository has comes from the store."""
    finished(run, "j1", *pairs())
    del run.sites[TARGET].repositories["team/tool"]
    counters = finished(run, "j2", *pairs(only=["team/tool"]))
    assert counters["saved_mounted"] > 0
    assert saved(counters) == sizes(only=["team/tool"])


def test_a_new_tag_of_known_layers_is_already_there(run: Run) -> None:
    """The destination has the blobs, only the manifest is new."""
    finished(run, "j1", *pairs())
    again = [
        Pair(p.source, registry_place(TARGET, p.source.repository, f"new-{p.source.tag}")) for p in pairs()
    ]
    single = [pair for pair in again if pair.source.repository != "team/multi"]
    for pair in single:
        put(run.sites[SOURCE], pair.source.repository, pair.source.tag, image(BASE, config=b'{"new":1}'))
    counters = finished(run, "j2", *single)
    assert counters["saved_present"] >= len(single) * len(BASE)
    assert counters["downloaded"] + saved(counters) == len(single) * len(BASE + b'{"new":1}')


def test_two_destinations_share_one_reading(run: Run) -> None:
    """Both are sent everything, the source is read once."""
    counters = finished(run, "j1", *pairs(), *pairs(OTHER))
    assert counters["uploaded"] == 2 * counters["downloaded"]
    assert counters["downloaded"] + saved(counters) == 2 * sizes()


def test_a_copy_within_one_registry_is_mounted_or_moved_once(run: Run) -> None:
    """Whether its mounts are granted or refused."""
    for number, refused in enumerate((False, True)):
        run.sites[SOURCE].refuse_mounts = refused
        wanted = [
            Pair(p.source, registry_place(SOURCE, f"prod{number}/{p.source.repository}")) for p in pairs()
        ]
        counters = finished(run, f"j{number}", *wanted)
        assert counters["downloaded"] + saved(counters) == sizes()
        assert (counters["saved_mounted"] > 0) is not refused


def test_two_jobs_at_once_add_up_each_for_itself(run: Run) -> None:
    """The bytes count for the job that paid for them, the other one shared them."""
    run.open("j1", *pairs(only=["team/app"]))
    run.open("j2", *pairs(only=["team/tool"]))
    run.drain()
    for job, name in (("j1", "team/app"), ("j2", "team/tool")):
        counters = run.counters(job)
        assert counters["downloaded"] + saved(counters) == sizes(only=[name])


def test_an_image_pulled_and_pushed_adds_up(run: Run) -> None:
    """Into the store: read or saved. Out of it: sent or saved; reading the store is no saving then."""
    kept = [Pair(p.source, store_place(SOURCE, p.source.repository, p.source.tag)) for p in pairs()]
    counters = finished(run, "pull", *kept)
    assert counters["uploaded"] == 0
    assert counters["downloaded"] + saved(counters) == sizes()
    counters = finished(
        run, "push", *(Pair(p.destination, registry_place(TARGET, p.source.repository)) for p in kept)
    )
    assert counters["saved_stored"] == counters["downloaded"] == 0
    assert counters["uploaded"] + saved(counters) == sizes()


def test_every_counter_is_there_from_the_beginning(run: Run) -> None:
    """Readers need no default: a job that has done nothing shows zeros."""
    run.open("j1", *pairs())
    counters = run.counters("j1")
    assert set(counters) == set(COUNTERS)
    assert not any(counters.values())
