"""The store's upkeep as sweeps and commands use it: in bites, with running jobs spared and damage mended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from distworker.blobstore.keys import care_key, ref_key
from distworker.blobstore.memory import MemoryStore
from distworker.care.refs import forget
from distworker.errors import Lost
from distworker.plan.folder import CLOSED_FILE, Note, write_note
from distworker.plan.refguard import Intent, Sentence, forget_dead, intended
from distworker.reference import Reference
from distworker.service.care import Care, Keeping
from distworker.service.upkeep import Bite
from tests.unit.care.pictures import HOUR, TENANT, digests_in, hang, picture, spoil

ONE = picture("one", ["shared", "own"])
TWO = picture("two", ["shared", "other"])


class World:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.store = MemoryStore(lambda: self.now)
        self.steps: list[tuple[str, Mapping[str, Any]]] = []
        self.submitted: list[Mapping[str, Any]] = []
        hang(self.store, "r.example/a:1", ONE)
        hang(self.store, "r.example/b:1", TWO)
        keeping = Keeping(jobs=1, quarantine=1, scrub_rate=0)
        self.care = Care(self.store, steps=lambda: self.steps, submit=self.submit, keeping=keeping)

    def submit(self, fields: Mapping[str, Any]) -> str:
        self.submitted.append(fields)
        return f"job-{len(self.submitted)}"

    def sweep(self, name: str) -> Mapping[str, int]:
        """A whole round."""
        more = True
        while more:
            counts, more = self.care.sweeps()[name](Bite(lambda: None))
        return counts


@pytest.fixture
def world() -> World:
    return World()


def test_the_gc_sweep_spares_running_jobs_and_then_frees_the_room(world: World) -> None:
    """Counts are those of the whole round."""
    forget(world.store, TENANT, Reference.parse("r.example/a:1"))
    assert world.sweep("gc") == {"deleted": 0, "freed_bytes": 0, "marked": 3}
    world.now += 25 * HOUR
    world.steps = [("m:image", {"digest": str(ONE.tree.root.digest), "media_type": ""})]
    assert world.sweep("gc")["deleted"] == 0
    world.steps = []
    world.sweep("gc")
    world.now += 25 * HOUR
    assert world.sweep("gc")["deleted"] == 3
    assert digests_in(world.store) == TWO.digests


def test_the_scrub_sweep_starts_a_pull_of_the_very_digest(world: World) -> None:
    """Under the name it had; a ref that names nothing any more cannot be mended."""
    shared = next(digest for digest in ONE.blobs if digest in TWO.blobs)
    spoil(world.store, shared)
    world.store.put_bytes(ref_key(TENANT, "r.example", "c", "1"), b"{half")
    assert world.sweep("scrub") == {"blobs": 6, "bad": 1, "refs_damaged": 3}
    [fields] = world.submitted
    assert (fields["kind"], fields["labels"]) == ("pull", {"reason": "scrub"})
    assert fields["pairs"] == [
        {"source": f"r.example/a:1@{ONE.tree.root.digest}", "destination": "r.example/a:1"},
        {"source": f"r.example/b:1@{TWO.tree.root.digest}", "destination": "r.example/b:1"},
    ]


def test_a_tag_that_names_something_else_by_now_is_not_mended_back() -> None:
    """It moved, was forgotten, or was spoiled between the look at it and the job."""
    store, sent = MemoryStore(), []
    care = Care(store, TENANT, submit=lambda fields: sent.append(fields) or "job")
    for name in ("moved", "gone", "spoiled"):
        hang(store, f"r.example/{name}:1", ONE)
    spoil(store, next(digest for digest in ONE.blobs if digest not in TWO.blobs))
    damaged = care.scrubber(0).bite().damaged
    hang(store, "r.example/moved:1", TWO)
    forget(store, TENANT, Reference.parse("r.example/gone:1"))
    store.put_bytes(ref_key(TENANT, "r.example", "spoiled", "1"), b"{half")

    assert (len(damaged), care.mend(damaged), sent) == (3, [], [])


def test_a_sweep_that_lost_its_turn_stops(world: World) -> None:
    """At the next chunk; the next one goes on."""

    def lost() -> None:
        raise Lost("another worker has this sweep now")

    for name in ("gc", "scrub", "retention"):
        with pytest.raises(Lost):
            world.store.put_bytes("default/jobs/x/closed.json", b"{}")
            world.care.sweeps()[name](Bite(lost))


def test_the_retention_sweep_clears_old_records(world: World) -> None:
    """After the days of the settings."""
    write_note(world.store, TENANT, "old", Note(CLOSED_FILE))
    world.store.put_bytes(care_key(TENANT, "intents/dead"), b"{}")
    world.now += 25 * HOUR
    assert world.sweep("retention") == {"jobs": 1, "quarantined": 0, "dead_intents": 1}


def test_without_a_fleet_nothing_is_started(world: World) -> None:
    """Local runs report damage only."""
    spoil(world.store, next(iter(ONE.blobs)))
    alone = Care(world.store)
    assert alone.mend(alone.scrubber(0).bite().damaged) == []


def test_the_dead_leave_nothing_that_lasts(world: World) -> None:
    """A sentence is over after minutes, an intent after a day; the living ones stay."""
    store, digest = world.store, ONE.tree.root.digest
    for kind in ("intents", "sentences"):
        store.put_bytes(care_key(TENANT, f"{kind}/dead"), b'{"digests": ["%s"]}' % digest.encode())
    world.now += 25 * HOUR
    with Intent(store, TENANT, [TWO.tree.root.digest], pause=lambda seconds: None):
        assert list(intended(store, TENANT, world.now)) == [TWO.tree.root.digest]
        assert forget_dead(store, TENANT, world.now) == 2
        assert forget_dead(store, TENANT, world.now) == 0
    assert list(intended(store, TENANT, world.now)) == []


def test_a_writer_waits_for_a_sentence_on_its_own_blobs_only(world: World) -> None:
    """And no longer than one is carried out, whatever became of who wrote it."""
    slept: list[float] = []
    with Sentence(world.store, TENANT, [ONE.tree.root.digest]):
        with Intent(world.store, TENANT, [TWO.tree.root.digest], pause=slept.append):
            assert slept == []
        with Intent(world.store, TENANT, [ONE.tree.root.digest], pause=slept.append):
            assert sum(slept) == 30.0
        world.now += 20
        slept.clear()
        with Intent(world.store, TENANT, [ONE.tree.root.digest], pause=slept.append):
            assert sum(slept) == 10.0
