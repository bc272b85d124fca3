"""The collector: what it takes, what it leaves, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from distworker.blobstore.keys import blob_key, care_key, ref_key
from distworker.blobstore.memory import MemoryStore
from distworker.care.digestset import DigestSet
from distworker.care.gc import Collected, Collector
from distworker.care.refs import forget
from distworker.digest import Digest
from distworker.errors import InvalidRequest, ManifestUnknown, StateUnavailable
from distworker.reference import Reference
from tests.unit.care.pictures import HOUR, TENANT, broken_refs, digests_in, group, hang, picture, spoil

ONE = picture("one", ["shared", "own"])
TWO = picture("two", ["shared", "other"])
DAY = 24 * HOUR


class Shop:
    """A store whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.store = MemoryStore(lambda: self.now)
        self.steps: list[tuple[str, Mapping[str, Any]]] = []

    def collector(self, **options: Any) -> Collector:
        return Collector(self.store, TENANT, steps=lambda: self.steps, **options)

    def run(self, **options: Any) -> Collected:
        """A whole run."""
        while not (told := self.collector(**options).bite()).finished:
            self.now += 1
        return told

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def forget(self, name: str) -> None:
        forget(self.store, TENANT, Reference.parse(name))


@pytest.fixture
def shop() -> Shop:
    found = Shop()
    hang(found.store, "r.example/a:1", ONE)
    hang(found.store, "r.example/b:1", TWO)
    return found


def test_what_a_ref_needs_stays_however_often_is_collected(shop: Shop) -> None:
    """Manifests, configs and layers of every ref."""
    for _ in range(4):
        shop.sleep(2 * DAY)
        assert shop.run().deleted == 0

    assert digests_in(shop.store) == ONE.digests | TWO.digests


def test_what_nothing_needs_goes_with_the_second_run_after_the_grace(shop: Shop) -> None:
    """The first run only marks; a shared layer stays as long as one ref needs it."""
    shop.forget("r.example/a:1")
    first = shop.run()
    assert (first.deleted, first.marked) == (0, 3)
    shop.sleep(DAY - 10)
    assert (shop.run().deleted, shop.run().marked) == (0, 3)
    shop.sleep(20)

    last = shop.run()

    assert (last.deleted, last.marked) == (3, 0)
    assert last.freed == sum(len(ONE.blobs[d]) for d in set(ONE.blobs) - set(TWO.blobs)) + ONE.tree.root.size
    assert digests_in(shop.store) == TWO.digests


def test_a_blob_that_is_needed_again_in_between_stays(shop: Shop) -> None:
    """Although its bytes were not written anew."""
    shop.forget("r.example/a:1")
    shop.run()
    hang(shop.store, "r.example/c:1", ONE)
    shop.sleep(2 * DAY)
    assert shop.run().deleted == 0
    assert broken_refs(shop.store) == []


def test_a_blob_written_again_since_its_mark_waits_anew(shop: Shop) -> None:
    """Somebody just brought it."""
    shop.forget("r.example/a:1")
    shop.run()
    shop.sleep(DAY)
    digest = next(iter(set(ONE.blobs) - set(TWO.blobs)))
    shop.store.put_bytes(blob_key(TENANT, Digest.parse(digest)), ONE.blobs[digest])
    shop.run()
    assert digest in digests_in(shop.store)
    shop.sleep(DAY + 1)
    shop.run()
    assert digest not in digests_in(shop.store)


@pytest.mark.parametrize("kind", ["d", "u", "m"])
def test_what_running_jobs_work_on_stays(shop: Shop, kind: str) -> None:
    """The blob of a download or an upload; everything below the root of a publish."""
    shop.forget("r.example/a:1")
    shop.run()
    shop.sleep(2 * DAY)
    layer = next(iter(set(ONE.blobs) - set(TWO.blobs)))
    root = str(ONE.tree.root.digest)
    body = {"digest": root, "media_type": "", "loose": []} if kind == "m" else {"digest": layer}
    shop.steps = [(f"{kind}:x", body), ("m:unplanned", {"transfer": {}})]
    shop.run()
    assert digests_in(shop.store) >= (ONE.digests if kind == "m" else {layer})
    shop.steps = []
    shop.run()
    shop.sleep(2 * DAY)
    shop.run()
    assert digests_in(shop.store) == TWO.digests


def test_the_children_of_an_index_and_a_subject_are_needed_too() -> None:
    """Through every level; what an attestation is about stays with it."""
    shop = Shop()
    subject = {
        "mediaType": ONE.tree.root.media_type,
        "digest": ONE.tree.root.digest,
        "size": ONE.tree.root.size,
    }
    about = picture("about", ["signature"], subject=subject)
    for name, image in (("s", ONE), ("about", about), ("many", group(group(TWO), picture("x", ["y"])))):
        hang(shop.store, f"r.example/{name}:1", image)
    there = digests_in(shop.store)
    shop.forget("r.example/s:1")
    for _ in range(2):
        shop.run()
        shop.sleep(2 * DAY)
    shop.run()
    assert digests_in(shop.store) == there


def test_while_a_ref_cannot_be_read_nothing_is_deleted(shop: Shop) -> None:
    """What it needs is not known. Once it is gone or mended, the marks count."""
    shop.forget("r.example/a:1")
    shop.run()
    shop.sleep(2 * DAY)
    key = ref_key(TENANT, "r.example", "c", "1")
    shop.store.put_bytes(key, b"{half")
    told = shop.run()
    assert told.deleted == 0
    assert [line.partition(":")[0] for line in told.unreadable] == ["r.example/c"]
    shop.store.delete(key)
    assert shop.run().deleted == 3


def test_a_damaged_manifest_keeps_what_may_hang_on_it(shop: Shop) -> None:
    """Bytes that do not hash to their name say nothing."""
    hang(shop.store, "r.example/c:1", group(ONE))
    spoil(shop.store, str(ONE.tree.root.digest))
    shop.forget("r.example/a:1")
    for _ in range(3):
        assert len(shop.run().unreadable) == 1
        shop.sleep(2 * DAY)
    assert digests_in(shop.store) >= ONE.digests


def test_a_ref_whose_manifest_is_gone_is_told_and_stops_nothing(shop: Shop) -> None:
    """There is nothing to learn from it."""
    shop.store.delete(blob_key(TENANT, ONE.tree.root.digest))
    told = shop.run()
    assert (told.broken, told.unreadable) == (["r.example/a:1"], [])
    shop.sleep(2 * DAY)
    assert shop.run().deleted == 2


def test_a_run_in_bites_ends_as_one_in_one_piece(shop: Shop) -> None:
    """Each bite by a process of its own, which stops at its first look at the clock."""
    for number in range(12):
        hang(shop.store, f"r.example/more:{number}", picture(f"more {number}", [f"{number}"]))
    shop.forget("r.example/a:1")
    shop.sleep(60)
    for _ in range(2):
        bites = 0
        while not Collector(shop.store, TENANT, clock=_hasty()).bite(1.0).finished:
            bites += 1
            assert bites < 100
        assert bites > 1
        shop.sleep(2 * DAY)
    assert digests_in(shop.store) & ONE.digests == ONE.digests & TWO.digests
    assert broken_refs(shop.store) == []


def _hasty() -> Any:
    """A clock that jumps far at its third reading: one ref, or one batch of blobs, a bite."""
    times: Iterator[float] = iter([0.0, 0.0, 0.0])
    return lambda: next(times, 5.0)


def test_a_lost_piece_of_a_run_makes_it_begin_anew(shop: Shop) -> None:
    """What was known of the refs must never be less than what counts as known."""
    shop.sleep(60)
    Collector(shop.store, TENANT, clock=_hasty()).bite(1.0)
    state = json.loads(shop.store.get_bytes(care_key(TENANT, "gc/state"), 10_000) or b"")
    shop.store.delete(care_key(TENANT, f"gc/parts/{state['pieces'][0]}"))
    shop.sleep(2 * DAY)
    assert shop.run().blobs == len(ONE.digests | TWO.digests)
    assert shop.run().deleted == 0


def test_nothing_is_deleted_while_the_ledger_is_away(shop: Shop) -> None:
    """Running jobs cannot be asked."""
    shop.forget("r.example/a:1")
    shop.run()
    shop.sleep(2 * DAY)

    def away() -> Any:
        raise StateUnavailable("no answer")

    with pytest.raises(StateUnavailable):
        Collector(shop.store, TENANT, steps=away).bite()
    assert digests_in(shop.store) == ONE.digests | TWO.digests


def test_the_preview_tells_what_a_run_would_delete_and_deletes_nothing(shop: Shop) -> None:
    """Neither blobs nor marks are touched."""
    shop.forget("r.example/a:1")
    assert [c.verdict for c in shop.collector().preview()[1]] == ["new"] * 3
    shop.run()
    assert [c.verdict for c in shop.collector().preview()[1]] == ["waiting"] * 3
    shop.sleep(2 * DAY)
    before = sorted(o.key for o in shop.store.list(""))
    told, candidates = shop.collector().preview()
    due = {str(c.digest) for c in candidates if c.verdict == "due"}
    assert due == ONE.digests - TWO.digests
    assert told.refs == 1
    assert sorted(o.key for o in shop.store.list("")) == before
    shop.run()
    assert digests_in(shop.store) == TWO.digests


def test_the_grace_can_be_set(shop: Shop) -> None:
    """In seconds."""
    shop.forget("r.example/a:1")
    shop.run()
    shop.sleep(HOUR)
    assert shop.run(grace=HOUR).deleted == 3


def test_a_collection_leaves_no_records_behind_but_its_marks(shop: Shop) -> None:
    """No intent, no sentence, no piece of a run."""
    shop.run()
    shop.run()
    left = {o.key.removeprefix("default/care/") for o in shop.store.list("default/care/")}
    assert left == {"clock", "gc/marks"}


def test_forgetting_names_what_went_and_refuses_what_is_no_ref(shop: Shop) -> None:
    """A tag, or all tags of a repository."""
    hang(shop.store, "r.example/a:2", TWO)
    assert forget(shop.store, TENANT, Reference.parse("r.example/a")) == ["r.example/a:1", "r.example/a:2"]
    with pytest.raises(ManifestUnknown):
        forget(shop.store, TENANT, Reference.parse("r.example/a:1"))
    with pytest.raises(InvalidRequest):
        forget(shop.store, TENANT, Reference.parse(f"r.example/b@{TWO.tree.root.digest}"))


def test_a_set_of_digests_knows_what_it_was_given() -> None:
    """Also entries that lie across others in the same heap, and after being kept in pieces."""
    made = [Digest.of(str(n).encode()).hex for n in range(5_000)]
    made += ["abcd" + "00" * 30, "abcd" + "00" * 13 + "01" + "00" * 16]
    found = DigestSet()
    assert all(found.add(text) for text in made[::2])
    assert not found.add(made[0])
    copy = DigestSet()
    copy.load(found.drain())
    assert found.drain() == b""
    for each in (found, copy):
        assert len(each) == len(made[::2])
        assert all((text in each) == (n % 2 == 0) for n, text in enumerate(made))


@pytest.mark.parametrize("record", [b"[" * 4_000, b'{"started":1,"counts":{"blobs":"x"}}', b"{", b"5"])
def test_a_damaged_record_of_a_run_makes_it_begin_anew(shop: Shop, record: bytes) -> None:
    """And so do damaged marks: nothing is deleted before its time."""
    shop.forget("r.example/a:1")
    for name in ("gc/state", "gc/marks"):
        shop.store.put_bytes(care_key(TENANT, name), record)
    assert (shop.run().deleted, shop.run().marked) == (0, 3)


def test_a_piece_in_which_a_bit_changed_is_not_gone_on_with(shop: Shop) -> None:
    """A digest that is lost from what is needed would cost a blob of a ref that counts as read."""
    shop.sleep(HOUR)
    ticks = iter(range(1_000))
    shop.collector(clock=lambda: float(next(ticks))).bite(2.5)
    key = next(found.key for found in shop.store.list(care_key(TENANT, "gc/parts") + "/piece-"))
    data = shop.store.get_bytes(key, 1 << 20) or b""
    shop.store.put_bytes(key, data[:-1] + bytes([data[-1] ^ 1]))
    told = shop.run(grace=0)
    assert (told.refs, told.deleted, told.marked) == (2, 0, 0)
    assert broken_refs(shop.store) == []


def test_a_ref_under_a_name_that_cannot_be_read_is_nobodys(shop: Shop) -> None:
    """It is left alone and keeps no collection from its end."""
    shop.store.put_bytes(f"{TENANT}/refs/r.example/a/tags/%FF", b"x")
    assert shop.run().refs == 2
