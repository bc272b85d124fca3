"""Scrubbing finds what is damaged or missing, puts it aside, and takes nothing that is good."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distworker.blobstore.keys import blob_key, care_key, quarantine_key, ref_key
from distworker.blobstore.memory import MemoryStore
from distworker.care.retention import retire
from distworker.care.scrub import Scrubbed, Scrubber
from distworker.care.usage import Sum, usage
from distworker.digest import Digest
from distworker.plan.folder import CLOSED_FILE, Note, folders, write_note
from tests.unit.care.pictures import HOUR, TENANT, broken_refs, digests_in, group, hang, picture, spoil

ONE = picture("one", ["shared", "own"])
TWO = picture("two", ["shared", "other"])
LAYER = next(digest for digest, data in ONE.blobs.items() if data.startswith(b"layer own"))
SHARED = next(digest for digest, data in ONE.blobs.items() if data.startswith(b"layer shared"))


@pytest.fixture
def store() -> MemoryStore:
    found = MemoryStore()
    hang(found, "r.example/a:1", ONE)
    hang(found, "r.example/b:1", group(TWO))
    return found


def scrub(store: MemoryStore, **options: Any) -> Scrubbed:
    """A whole round as fast as it goes."""
    return Scrubber(store, TENANT, rate=0, **options).bite()


def test_a_store_without_damage_is_read_whole_and_left_as_it_is(store: MemoryStore) -> None:
    """Every byte, every ref."""
    before = digests_in(store)
    done = scrub(store)
    assert (done.blobs, done.bad, done.refs, done.damaged, done.finished) == (len(before), 0, 2, [], True)
    assert done.bytes == sum(o.size for o in store.list("default/blobs/"))
    assert digests_in(store) == before


def test_a_damaged_blob_goes_to_the_quarantine_and_its_refs_are_told(store: MemoryStore) -> None:
    """With a note of what was found; both refs that need a shared one."""
    spoil(store, SHARED)
    done = scrub(store)
    aside = quarantine_key(TENANT, Digest.parse(SHARED))
    assert store.stat(blob_key(TENANT, Digest.parse(SHARED))) is None
    assert store.stat(aside) is not None
    note = json.loads(store.get_bytes(aside + ".json", 1000) or b"")
    assert (note["digest"], note["found"] != Digest.parse(SHARED).hex) == (SHARED, True)
    assert [(d.ref.name, d.digest) for d in done.damaged] == [
        ("r.example/a:1", ONE.tree.root.digest),
        ("r.example/b:1", group(TWO).tree.root.digest),
    ]
    assert (done.bad, done.refs_damaged) == (1, 2)
    hang(store, "r.example/a:1", ONE)
    assert broken_refs(store) == []


def test_a_damaged_manifest_is_put_aside_too(store: MemoryStore) -> None:
    """It is a blob like others."""
    spoil(store, str(TWO.tree.root.digest))
    done = scrub(store)
    assert [d.ref.name for d in done.damaged] == ["r.example/b:1"]
    assert str(TWO.tree.root.digest) not in digests_in(store)


def test_a_missing_blob_is_found_by_the_refs_that_need_it(store: MemoryStore) -> None:
    """And a damaged ref record, which names nothing any more."""
    store.delete(blob_key(TENANT, Digest.parse(LAYER)))
    store.put_bytes(ref_key(TENANT, "r.example", "c", "1"), b"{half")
    done = scrub(store)
    assert [(d.ref.name, d.digest is None) for d in done.damaged] == [
        ("r.example/a:1", False),
        ("r.example/c:1", True),
    ]
    assert done.bad == 0


def test_a_round_in_bites_reads_each_blob_once(store: MemoryStore) -> None:
    """Where it stands is kept, so each bite may be another process's; damage is told by the bite that finds
    it, and the end of the round is told once."""
    spoil(store, LAYER)
    told: list[str] = []
    for bites in range(1, 100):  # noqa: B007 - looked at below
        ticks = iter([0.0, 0.0, 0.0])
        done = Scrubber(store, TENANT, rate=0, clock=lambda ticks=ticks: next(ticks, 5.0)).bite(1.0)
        told += [each.ref.name for each in done.damaged]
        if done.finished:
            break
    assert bites > 5
    assert (done.blobs, done.bad, done.refs) == (len(digests_in(store)), 1, 2)
    assert told.count("r.example/a:1") == 2
    assert scrub(store).blobs == len(digests_in(store))


def test_a_ref_that_lost_several_blobs_is_told_once_while_they_are_found_and_once_at_the_end(
    store: MemoryStore,
) -> None:
    """Each time starts a job that brings the image again: a dead disk must not flood the fleet."""
    for digest in (SHARED, LAYER):
        spoil(store, digest)
    told: list[str] = []
    for _ in range(50):
        ticks = iter([0.0, 0.0, 0.0])
        done = Scrubber(store, TENANT, rate=0, clock=lambda ticks=ticks: next(ticks, 5.0)).bite(1.0)
        told += [damaged.ref.name for damaged in done.damaged]
        if done.finished:
            break
    assert (done.finished, done.bad) == (True, 2)
    assert sorted(told) == ["r.example/a:1"] * 2 + ["r.example/b:1"] * 2


def test_a_blob_written_anew_while_it_is_read_is_left_alone(store: MemoryStore) -> None:
    """The reading saw the old bytes, the move would take the new ones."""
    spoil(store, LAYER)
    key = blob_key(TENANT, Digest.parse(LAYER))
    reads = 0

    def alive() -> None:
        nonlocal reads
        reads += 1
        found = store.stat(key)
        if found is not None and store.get_bytes(key, 10_000) != ONE.blobs[LAYER] and reads > 2:
            store.put_bytes(key, ONE.blobs[LAYER])

    done = scrub(store, alive=alive)
    assert (done.bad, done.damaged) == (0, [])
    assert store.get_bytes(key, 10_000) == ONE.blobs[LAYER]


def test_the_rate_is_kept(store: MemoryStore) -> None:
    """The pauses add up to what the bytes may take."""
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    done = Scrubber(store, TENANT, rate=100, clock=lambda: now[0], sleep=sleep).bite(10_000)
    assert done.finished
    assert done.bytes / 100 - 1 <= sum(slept) <= done.bytes / 100


def test_usage_adds_up(store: MemoryStore) -> None:
    """Each byte once; unique and shared ones by repository, the largest first."""
    hang(store, "r.example/a:2", ONE)
    orphan = b"nobody's"
    store.put_bytes(blob_key(TENANT, Digest.of(orphan)), orphan)
    spoil(store, LAYER)
    scrub(store)
    found = usage(store, TENANT)
    total = sum(o.size for o in store.list("default/blobs/"))
    assert found.blobs == Sum(len(digests_in(store)), total)
    assert (found.unreferenced, found.referenced.bytes) == (Sum(1, len(orphan)), total - len(orphan))
    assert (found.refs, found.quarantine.count, found.unfinished.count) == (3, 2, 0)
    shared = len(ONE.blobs[SHARED])
    alone = [sum(map(len, image.blobs.values())) - shared for image in (ONE, TWO)]
    b, a = found.repositories
    assert (a.name, a.refs, a.shared) == ("r.example/a", 2, shared)
    assert a.unique == alone[0] + ONE.tree.root.size
    assert b.unique == alone[1] + sum(m.size for m in group(TWO).tree.manifests)


def test_records_of_jobs_that_are_over_go_after_their_time() -> None:
    """Open jobs stay, however old; the quarantine has a time of its own."""
    now = [1_700_000_000.0]
    store = MemoryStore(lambda: now[0])
    hang(store, "r.example/a:1", ONE)
    for job in ("open", "over", "young"):
        store.put_bytes(f"default/jobs/{job}/request.json", b"{}")
    write_note(store, TENANT, "over", Note(CLOSED_FILE))
    spoil(store, LAYER)
    scrub(store)
    now[0] += 48 * HOUR
    write_note(store, TENANT, "young", Note(CLOSED_FILE))
    days = {"now": now[0], "keep_jobs": 24 * HOUR, "keep_quarantine": 72 * HOUR}
    assert retire(store, TENANT, **days) == ({"jobs": 1, "quarantined": 0}, False)
    assert [f.job for f in folders(store, TENANT)] == ["open", "young"]
    now[0] += 48 * HOUR
    assert retire(store, TENANT, **days | {"now": now[0]})[0] == {"jobs": 1, "quarantined": 1}
    assert [f.job for f in folders(store, TENANT)] == ["open"]
    assert list(store.list("default/quarantine/")) == []
    assert retire(store, TENANT, now=now[0] * 2, keep_jobs=0, keep_quarantine=0)[0]["jobs"] == 0


@pytest.mark.parametrize("record", [b"[" * 4_000, b'{"counts":{"refs":"x"},"cursor":"default/refs/"}', b"5"])
def test_a_damaged_record_of_a_round_makes_it_begin_anew(record: bytes) -> None:
    """Whatever is wrong in it."""
    store = MemoryStore()
    hang(store, "r.example/a:1", picture("one", ["a", "b"]))
    store.put_bytes(care_key(TENANT, "scrub"), record)
    done = Scrubber(store, TENANT, rate=0).bite()
    assert (done.blobs, done.refs, done.finished) == (4, 1, True)
