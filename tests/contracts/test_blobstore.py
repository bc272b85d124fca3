"""One contract for every store: what the port promises, held against memory, a folder and S3.

The real S3 server is started once for the whole run; moto keeps the quick run honest about the same adapter.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from distworker.blobstore.base import BlobStore, StoredObject
from distworker.blobstore.keys import ref_key, tags_prefix
from distworker.digest import Digest, Verified, verify_bytes
from distworker.errors import DigestMismatch, LimitExceeded, SizeMismatch
from tests.contracts.stores import GONE, MIB, leftovers, named, put, read


def test_a_blob_is_read_back_as_it_was_written(store: BlobStore) -> None:
    """Bytes, size and the absence of leftovers after one ordinary write."""
    data = os.urandom(300_001)
    key = put(store, data)
    assert store.stat(key) == StoredObject(key, len(data))
    assert read(store, key) == data
    assert leftovers(store) == [key]


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    """The empty layer exists, has size 0 and streams nothing."""
    key = put(store, b"")
    assert store.stat(key) == StoredObject(key, 0)
    assert read(store, key) == b""


def test_nothing_is_visible_before_the_commit(store: BlobStore) -> None:
    """A reader, a lister and a HEAD all see nothing while bytes are still coming."""
    data = os.urandom(200_000)
    key, digest = named(data)
    with store.writer(key, digest, len(data), "claim1") as writer:
        writer.write(data)
        assert store.stat(key) is None
        assert store.get_bytes(key, MIB) is None
        assert list(store.list("")) == []
        writer.commit(verify_bytes(data, digest))
    assert store.stat(key) is not None


def test_leaving_without_a_commit_leaves_nothing(store: BlobStore) -> None:
    """An abandoned write disappears, and so does one that an error interrupts."""
    data = os.urandom(200_000)
    key, digest = named(data)
    with store.writer(key, digest, len(data), "claim1") as writer:
        writer.write(data)
    with pytest.raises(ZeroDivisionError), store.writer(key, digest, len(data), "claim1") as writer:
        writer.write(data[:10])
        raise ZeroDivisionError
    assert leftovers(store) == []


def other(data: bytes) -> Verified:
    """Proof for other bytes of the same length."""
    flipped = bytes([data[0] ^ 1]) + data[1:]
    return verify_bytes(flipped, Digest.of(flipped))


def shorter(data: bytes) -> Verified:
    """Proof for the right name cannot exist for fewer bytes, so it is for a prefix."""
    return verify_bytes(data[:-1], Digest.of(data[:-1]))


@pytest.mark.parametrize("proof", [other, shorter])
def test_a_proof_for_something_else_shows_nothing(
    store: BlobStore, proof: Callable[[bytes], Verified]
) -> None:
    """The proof must name this writer's digest."""
    data = os.urandom(50_000)
    key, digest = named(data)
    with (
        pytest.raises(DigestMismatch),
        store.writer(key, digest, len(data), "claim1") as writer,
    ):
        writer.write(data)
        writer.commit(proof(data))
    assert leftovers(store) == []


def test_too_few_bytes_are_not_shown_even_with_the_right_proof(store: BlobStore) -> None:
    """What was hashed and what was written must be the same number of bytes."""
    data = os.urandom(50_000)
    key, digest = named(data)
    with pytest.raises(SizeMismatch), store.writer(key, digest, len(data), "claim1") as writer:
        writer.write(data[:-1])
        writer.commit(verify_bytes(data, digest))
    assert leftovers(store) == []


def test_too_many_bytes_are_refused_while_writing(store: BlobStore) -> None:
    """A source that keeps sending is stopped at the announced size."""
    data = os.urandom(1000)
    key, digest = named(data)
    with pytest.raises(SizeMismatch), store.writer(key, digest, 999, "claim1") as writer:
        writer.write(data)
    assert leftovers(store) == []


def test_only_a_real_proof_is_taken(store: BlobStore) -> None:
    """Truthy look-alikes do not pass."""
    key, digest = named(b"abc")
    with pytest.raises(TypeError), store.writer(key, digest, 3, "claim1") as writer:
        writer.write(b"abc")
        writer.commit(True)  # type: ignore[arg-type]
    assert leftovers(store) == []


def test_the_writer_copies_what_it_is_given(store: BlobStore) -> None:
    """The caller may reuse its buffer at once; memoryviews and bytearrays are welcome."""
    data = b"a" * 1000 + b"b" * 1000
    key, digest = named(data)
    buffer = bytearray(b"a" * 1000)
    with store.writer(key, digest, len(data), "claim1") as writer:
        writer.write(memoryview(buffer))
        buffer[:] = b"b" * 1000
        writer.write(buffer)
        buffer[:] = b"c" * 1000
        writer.commit(verify_bytes(data, digest))
    assert read(store, key) == data


@pytest.mark.parametrize("offset", [0, 1, MIB - 1, MIB, 2 * MIB + 5, 3 * MIB - 1, 3 * MIB])
def test_reading_starts_at_any_offset(store: BlobStore, offset: int) -> None:
    """Offsets inside, at chunk borders and at the very end."""
    data = os.urandom(3 * MIB)
    key = put(store, data)
    assert read(store, key, offset) == data[offset:]


def test_chunks_are_of_bounded_size(store: BlobStore) -> None:
    """No chunk above 4 MiB and none empty, or memory would follow the blob."""
    key = put(store, bytes(9 * MIB), chunk=3 * MIB)
    with store.open(key) as chunks:
        sizes = [len(chunk) for chunk in chunks]
    assert sum(sizes) == 9 * MIB
    assert 0 < min(sizes) <= max(sizes) <= 4 * MIB


def test_a_reader_may_stop_early(store: BlobStore) -> None:
    """Leaving after the first chunk closes what was open, and the store still works."""
    key = put(store, os.urandom(3 * MIB))
    with store.open(key) as chunks:
        assert next(chunks)
    assert len(read(store, key)) == 3 * MIB


def test_what_is_missing_is_none_or_file_not_found(store: BlobStore) -> None:
    """A missing key is an answer, not a fault; deleting it is fine."""
    key, _ = named(b"never written")
    assert store.stat(key) is None
    assert store.get_bytes(key, 10) is None
    with pytest.raises(FileNotFoundError), store.open(key):
        raise AssertionError("opened a missing object")
    store.delete(key)


def test_a_key_that_is_only_the_beginning_of_others_is_missing(store: BlobStore) -> None:
    """`a/b` does not exist because `a/b/c` does, nor the other way round."""
    store.put_bytes("a/b/c", b"x")
    assert store.stat("a/b") is None
    assert store.get_bytes("a/b", 10) is None
    assert store.stat("a/b/c/d") is None
    assert store.get_bytes("a/b/c/d", 10) is None
    with pytest.raises(FileNotFoundError), store.open("a/b/c/d"):
        raise AssertionError("opened a missing object")
    store.delete("a/b/c/d")
    assert [o.key for o in store.list("")] == ["a/b/c"]


def test_deleting_twice_is_no_error(store: BlobStore) -> None:
    """The object is gone after the first time and stays gone."""
    key = put(store, b"once")
    store.delete(key)
    store.delete(key)
    assert leftovers(store) == []


def test_a_record_is_replaced_by_the_last_writer(store: BlobStore) -> None:
    """Records are small and may change; blobs never do."""
    store.put_bytes("default/jobs/j1/request.json", b"one")
    store.put_bytes("default/jobs/j1/request.json", b"two!")
    assert store.get_bytes("default/jobs/j1/request.json", 4) == b"two!"
    with pytest.raises(LimitExceeded):
        store.get_bytes("default/jobs/j1/request.json", 3)


def test_writing_a_blob_again_is_harmless(store: BlobStore) -> None:
    """Two claims may do the same work one after the other."""
    data = os.urandom(1000)
    assert put(store, data, "claim1") == put(store, data, "claim2")
    assert read(store, named(data)[0]) == data
    assert len(leftovers(store)) == 1


def test_an_object_says_when_it_was_put_there(store: BlobStore) -> None:
    """Asked for and listed, the same moment by the store's clock, which is not far from ours here."""
    before = time.time()
    store.put_bytes("t/a", b"x")
    found, [listed] = store.stat("t/a"), store.list("t/")
    assert found is not None
    assert abs(found.modified - listed.modified) < 1.0  # servers tell one of them in whole seconds
    assert before - 60 < listed.modified < time.time() + 60


def test_an_object_is_moved_to_another_key(store: BlobStore) -> None:
    """Bytes and size go along, nothing stays behind, and what had the key before is replaced."""
    data = os.urandom(300_001)
    key = put(store, data)
    store.put_bytes("default/quarantine/1/x", b"older")
    assert store.move(key, "default/quarantine/1/x")
    assert store.stat(key) is None
    assert read(store, "default/quarantine/1/x") == data
    assert leftovers(store) == ["default/quarantine/1/x"]


def test_moving_what_is_missing_changes_nothing(store: BlobStore) -> None:
    """The other key keeps what it has; the beginning of other keys is no object either."""
    store.put_bytes("t/a/b", b"x")
    assert not store.move("t/nothing", "t/a/b")
    assert not store.move("t/a", "t/c")
    assert store.get_bytes("t/a/b", 1) == b"x"
    assert leftovers(store) == ["t/a/b"]


def test_moving_an_object_to_its_own_key_keeps_it(store: BlobStore) -> None:
    """Nothing is deleted that was not copied elsewhere."""
    store.put_bytes("t/a", b"x")
    assert store.move("t/a", "t/a")
    assert store.get_bytes("t/a", 1) == b"x"


def test_listing_is_in_key_order_and_keeps_to_the_prefix(store: BlobStore) -> None:
    """Byte order over whole keys, which a folder walk gets wrong around `-`, `.` and `/`."""
    keys = sorted(["t/a/b", "t/a-b", "t/a.b", "t/a/c/d", "t/a0", "t/ab", "u/a"])
    for key in reversed(keys):
        store.put_bytes(key, key.encode())
    assert [o.key for o in store.list("")] == keys
    assert [o.key for o in store.list("t/a/")] == ["t/a/b", "t/a/c/d"]
    assert [o.key for o in store.list("t/a")] == keys[:-1]
    assert [(o.key, o.size) for o in store.list("u/")] == [("u/a", 3)]
    assert list(store.list("nothing/")) == []
    for after in [*keys, "t/a/", "t/a/c", "t/b", "v"]:
        assert [o.key for o in store.list("", after)] == [key for key in keys if key > after]
    assert [o.key for o in store.list("t/a/", "t/a/b")] == ["t/a/c/d"]


@pytest.mark.parametrize(
    ("host", "repository", "tag"),
    [
        ("registry.example:5000", "library/alpine", "3.20"),
        ("[::1]:5000", "a/tags", "tags"),
        ("registry.example", "a", "tags"),
        ("registry.example", "r" * 120 + "/" + "s" * 120, "_v1.0-RC1"),
        ("registry.example", "a b+c%41&d=é", "..."),
    ],
)
def test_odd_names_make_usable_keys(store: BlobStore, host: str, repository: str, tag: str) -> None:
    """Ports, slashes, spaces, percent signs, plus signs and names beyond a file system's limit."""
    key = ref_key("default", host, repository, tag)
    store.put_bytes(key, b"{}")
    assert store.get_bytes(key, 10) == b"{}"
    assert [o.key for o in store.list(tags_prefix("default", host, repository))] == [key]
    store.delete(key)
    assert leftovers(store) == []


def test_names_that_look_like_folders_of_each_other_live_together(store: BlobStore) -> None:
    """The tag `tags` of `a` and any tag of the repository `a/tags` do not collide."""
    one, two = ref_key("default", "h", "a", "tags"), ref_key("default", "h", "a/tags", "x")
    store.put_bytes(one, b"1")
    store.put_bytes(two, b"2")
    assert (store.get_bytes(one, 1), store.get_bytes(two, 1)) == (b"1", b"2")


def test_two_writers_of_one_blob_at_once_do_not_disturb_each_other(store: BlobStore) -> None:
    """A late claim and its successor may both be writing; each is whole or nothing."""
    data = os.urandom(400_000)
    key, digest = named(data)
    with (
        store.writer(key, digest, len(data), "late") as late,
        store.writer(key, digest, len(data), "new") as new,
    ):
        late.write(data[:100_000])
        new.write(data)
        late.write(data[100_000:])
        new.commit(verify_bytes(data, digest))
        assert read(store, key) == data
        late.commit(verify_bytes(data, digest))
    assert read(store, key) == data
    assert leftovers(store) == [key]


def test_many_threads_share_one_store(store: BlobStore) -> None:
    """The slots of a worker use one store object at the same time."""
    blobs = [os.urandom(150_000 + n) for n in range(8)]
    failures: list[BaseException] = []

    def work(data: bytes) -> None:
        try:
            assert read(store, put(store, data)) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(data,)) for data in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert leftovers(store) == sorted(named(data)[0] for data in blobs)


def test_a_check_leaves_nothing(store: BlobStore) -> None:
    """The probe writes, reads and deletes."""
    store.check()
    assert leftovers(store) == []


class TestBig:
    """Blobs that S3 takes in several parts."""

    SIZE = 17 * MIB + 12_345

    @pytest.fixture
    def data(self) -> Iterator[bytes]:
        """Bytes in which every part differs."""
        yield os.urandom(self.SIZE)

    def test_a_big_blob_is_read_back_as_it_was_written(self, store: BlobStore, data: bytes) -> None:
        """Chunk and part borders never coincide, so misplaced bytes would show."""
        key = put(store, data, chunk=MIB + 7)
        assert store.stat(key) == StoredObject(key, len(data))
        assert read(store, key) == data
        assert leftovers(store) == [key]

    def test_an_unfinished_big_write_is_found_and_discarded(self, store: BlobStore, data: bytes) -> None:
        """What a killed worker leaves is listed with its key, and its late writer shows nothing."""
        key, digest = named(data)
        with store.writer(key, digest, len(data), "claim1") as writer:
            writer.write(data[: 12 * MIB])
            assert store.stat(key) is None
            [found] = store.unfinished()
            assert (found.key, found.token in {"claim1", ""}) == (key, True)
            assert found.started > 0
            store.discard(found)
            store.discard(found)
            assert list(store.unfinished()) == []
            with pytest.raises(GONE):
                writer.write(data[12 * MIB :])
                writer.commit(verify_bytes(data, digest))
        assert leftovers(store) == []

    def test_a_big_write_that_is_abandoned_leaves_nothing(self, store: BlobStore, data: bytes) -> None:
        """Parts already at the server are taken back."""
        key, digest = named(data)
        with store.writer(key, digest, len(data), "claim1") as writer:
            writer.write(data[: 14 * MIB])
        assert leftovers(store) == []
