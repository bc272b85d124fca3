"""What a writer left is gone on with by the next one: hashed, owned by one, and never shown unproved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distworker.blobstore import s3_resume
from distworker.blobstore.base import BlobStore, BlobWriter
from distworker.blobstore.keys import blob_key, partial_key
from distworker.blobstore.local import LocalStore
from distworker.blobstore.s3 import S3Store
from distworker.digest import Digest
from distworker.errors import DigestMismatch, Lost, StoreFull, StoreUnavailable
from tests.contracts.stores import MIB, imitated_s3, leftovers, named, read

#: Four parts of 5 MiB and a bit more.
SIZE = 21 * MIB + 99
#: What the first writer gets: three whole parts and a piece.
WRITTEN = 17 * MIB


class Broken(Exception):
    """What ends the first writer."""


@pytest.fixture(scope="module")
def data() -> Iterator[bytes]:
    """Bytes in which every part differs."""
    yield os.urandom(SIZE)


def feed(writer: BlobWriter, piece: bytes) -> None:
    """Hash and write as a download does."""
    for start in range(0, len(piece), MIB):
        chunk = piece[start : start + MIB]
        writer.hasher.update(chunk)
        writer.write(chunk)


def settle(writer: BlobWriter) -> None:
    """Let the writer's own thread finish what it sends: it is asleep, not in the middle of a request."""
    sending = getattr(writer, "_sending", None)
    if sending is not None:
        sending.result(20)


def leave(store: BlobStore, data: bytes, written: int = WRITTEN, token: str = "first") -> None:
    """A writer that breaks off and keeps what it has."""
    key, digest = named(data)
    with pytest.raises(Broken), store.writer(key, digest, len(data), token, resume=True) as writer:
        assert writer.hasher.seen == 0
        feed(writer, data[:written])
        writer.keep()
        raise Broken


def go_on(store: BlobStore, data: bytes, token: str = "second") -> int:
    """The next writer, to its end; returns the bytes it needed not write."""
    key, digest = named(data)
    with store.writer(key, digest, len(data), token, resume=True) as writer:
        begun = writer.hasher.seen
        feed(writer, data[begun:])
        writer.commit(writer.hasher.verify())
    return begun


def test_what_was_kept_is_not_written_again(store: BlobStore, data: bytes) -> None:
    """All whole parts, in a folder every byte; nothing is visible until the end, and nothing left after."""
    key, _ = named(data)
    leave(store, data)
    assert store.stat(key) is None
    assert [write.key for write in store.unfinished()] == [key]

    begun = go_on(store, data)

    assert begun == (15 * MIB if isinstance(store, S3Store) else WRITTEN)
    assert read(store, key) == data
    assert leftovers(store) == [key]


def test_a_second_break_goes_on_from_the_further_point(store: BlobStore, data: bytes) -> None:
    """Each run adds to what the ones before it brought, and says so while it runs."""
    key, digest = named(data)
    leave(store, data, 11 * MIB)
    with pytest.raises(Broken), store.writer(key, digest, SIZE, "second", resume=True) as writer:
        first = writer.hasher.seen
        assert first == writer.kept >= 10 * MIB
        feed(writer, data[first : 20 * MIB])
        writer.keep()
        raise Broken
    assert go_on(store, data, "third") >= 15 * MIB
    assert read(store, key) == data
    assert leftovers(store) == [key]


def test_what_was_not_to_be_kept_is_gone(store: BlobStore, data: bytes) -> None:
    """A cancel or a wrong digest leaves nothing to go on with, neither of this run nor of the one before."""
    key, digest = named(data)
    leave(store, data)
    with pytest.raises(Broken), store.writer(key, digest, SIZE, "second", resume=True) as writer:
        feed(writer, data[writer.hasher.seen : 20 * MIB])
        raise Broken
    assert leftovers(store) == []
    assert go_on(store, data) == 0


def test_a_writer_that_is_not_to_resume_starts_anew(store: BlobStore, data: bytes) -> None:
    """The one full restart after wrong bytes touches nothing that was there."""
    key, digest = named(data)
    leave(store, data)
    with store.writer(key, digest, SIZE, "second") as writer:
        assert writer.hasher.seen == 0
        feed(writer, data)
        writer.commit(writer.hasher.verify())
    assert read(store, key) == data
    for write in list(store.unfinished()):
        store.discard(write)
    store.delete(partial_key(key))
    assert leftovers(store) == [key]


def test_keeping_nothing_leaves_nothing(store: BlobStore, data: bytes) -> None:
    """A run that was stopped before its first byte."""
    key, digest = named(data)
    with pytest.raises(Broken), store.writer(key, digest, SIZE, "first", resume=True) as writer:
        writer.keep()
        raise Broken
    assert [o.key for o in store.list("")] == []
    assert go_on(store, data) == 0


def test_what_a_sweep_took_starts_again(store: BlobStore, data: bytes) -> None:
    """The unfinished write is gone, its record perhaps not: nothing is taken for granted."""
    leave(store, data)
    for write in list(store.unfinished()):
        store.discard(write)
    assert go_on(store, data) == 0
    assert leftovers(store) == [named(data)[0]]


def test_another_blob_is_not_gone_on_with(store: BlobStore, data: bytes) -> None:
    """Same size, other name."""
    leave(store, data)
    other = bytes([data[0] ^ 1]) + data[1:]
    assert go_on(store, other) == 0
    assert read(store, named(other)[0]) == other


@pytest.mark.parametrize("ends", [Broken, Lost, None])
def test_a_late_owner_harms_nobody(
    store: BlobStore, data: bytes, ends: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first writer was only asleep: whatever it does when it wakes, its successor's blob is whole."""
    monkeypatch.setattr(s3_resume, "NOTE_PARTS", 1)
    key, digest = named(data)
    late = store.writer(key, digest, SIZE, "late", resume=True)
    late.__enter__()
    feed(late, data[: 20 * MIB + MIB // 2])
    settle(late)
    new = store.writer(key, digest, SIZE, "new", resume=True)
    with new:
        feed(new, data[new.hasher.seen : 16 * MIB])
        if ends is Lost:
            late.keep()
        if ends is not None:
            late.__exit__(ends, ends("it wakes"), None)
        feed(new, data[new.hasher.seen :])
        new.commit(new.hasher.verify())
    assert read(store, key) == data
    if ends is None:
        late.__exit__(Lost, Lost("it wakes after the end"), None)
    assert read(store, key) == data
    left = [write for write in store.unfinished() if write.token != "late"]
    assert left == []


class TestFolder:
    """What only a folder can do."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        """A folder."""
        return LocalStore(tmp_path)

    def test_a_dead_writers_file_is_taken_over(self, store: LocalStore, data: bytes) -> None:
        """Killed by kill -9, it had no time to keep anything: the file is renamed, not copied."""
        (store.root / "data").write_bytes(data)
        run = (sys.executable, "-c", _WRITE_AND_DIE, str(store.root), str(WRITTEN))
        assert subprocess.run(run, check=False).returncode == -signal.SIGKILL
        [left] = store.unfinished()
        inode = (store.root / ".staging" / left.handle).stat().st_ino
        key, _ = named(data)
        assert go_on(store, data) == WRITTEN
        assert (store.root / key).stat().st_ino == inode
        assert not list(store.unfinished())

    def test_damaged_bytes_are_found_by_their_hash(self, store: LocalStore, data: bytes) -> None:
        """A power cut left zeros: the proof fails, and nothing of it stays."""
        key, digest = named(data)
        leave(store, data)
        [left] = store.unfinished()
        with (store.root / ".staging" / left.handle).open("r+b") as file:
            file.write(bytes(10))
        with pytest.raises(DigestMismatch), store.writer(key, digest, SIZE, "second", resume=True) as writer:
            feed(writer, data[writer.hasher.seen :])
            writer.commit(writer.hasher.verify())
        assert leftovers(store) == []


_WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from distworker.blobstore.keys import blob_key
from distworker.blobstore.local import LocalStore
from distworker.digest import Digest
root, written = Path(sys.argv[1]), int(sys.argv[2])
data = (root / "data").read_bytes()
(root / "data").unlink()
digest = Digest.of(data)
writer = LocalStore(root).writer(blob_key("default", digest), digest, len(data), "dead")
writer.write(data[:written])
os.kill(os.getpid(), signal.SIGKILL)
"""


class TestS3:
    """What only S3 needs: a record, and parts that cannot be read back."""

    @pytest.fixture
    def imitated(self) -> Iterator[S3Store]:
        """For what is decided before the server is asked."""
        yield from imitated_s3()

    def test_another_part_size_goes_on_with_the_records(self, s3: S3Store, data: bytes) -> None:
        """A worker with other settings: parts of 5 MiB stay parts of 5 MiB, whatever its buffers hold."""
        key, _ = named(data)
        leave(s3, data)
        other = S3Store(replace(s3._options, part_size=7 * MIB))
        other._client, other._owner = s3.client, os.getpid()
        assert go_on(other, data) == 15 * MIB
        assert read(s3, key) == data
        assert leftovers(s3) == [key]

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda raw: b"",
            lambda raw: b"[" * 5000,
            lambda raw: raw[:-2],
            lambda raw: raw.replace(b'"v": 1', b'"v": 2'),
            lambda raw: raw.replace(b'"parts": 3', b'"parts": "3"'),
            lambda raw: raw.replace(b'"parts": 3', b'"parts": 9'),
            lambda raw: raw.replace(b'"parts": 3', b'"parts": 4'),
            lambda raw: raw.replace(b'"parts": 3', b'"parts": 2'),
            lambda raw: raw.replace(b'"state": "', b'"state": "z'),
            lambda raw: raw.replace(b'"upload": "', b'"upload": "X'),
        ],
    )
    def test_a_record_that_makes_no_sense_starts_again(
        self, imitated: S3Store, data: bytes, spoil: Callable[[bytes], bytes]
    ) -> None:
        """Whatever stands there, nothing is taken over by it."""
        key, digest = named(data)
        leave(imitated, data)
        raw = imitated.get_bytes(partial_key(key), 4096)
        assert raw is not None
        imitated.put_bytes(partial_key(key), spoil(raw))
        with imitated.writer(key, digest, SIZE, "second", resume=True) as writer:
            assert writer.hasher.seen == 0

    def test_a_wrong_state_is_found_by_the_digest(self, imitated: S3Store, data: bytes) -> None:
        """A record whose hash is another one's: the proof fails, and upload and record go."""
        key, digest = named(data)
        leave(imitated, data)
        raw = imitated.get_bytes(partial_key(key), 4096)
        assert raw is not None
        at = raw.index(b'"state": "') + 10
        imitated.put_bytes(partial_key(key), raw[:at] + b"00000000" + raw[at + 8 :])
        with (
            pytest.raises(DigestMismatch),
            imitated.writer(key, digest, SIZE, "second", resume=True) as writer,
        ):
            feed(writer, data[writer.hasher.seen :])
            writer.commit(writer.hasher.verify())
        assert leftovers(imitated) == []

    def test_a_part_that_somebody_changed_starts_the_blob_again(self, s3: S3Store, data: bytes) -> None:
        """Its ETag is not the one that was written down."""
        key, _ = named(data)
        leave(s3, data)
        [left] = s3.unfinished()
        s3.client.upload_part(**s3.at(key), UploadId=left.handle, PartNumber=2, Body=bytes(5 * MIB))
        assert go_on(s3, data) == 0
        assert read(s3, key) == data
        assert leftovers(s3) == [key]

    def test_a_part_changed_after_the_takeover_is_refused_by_the_completion(
        self, s3: S3Store, data: bytes
    ) -> None:
        """One typed error, nothing shown, and no partial kept that would fail in the same way for ever."""
        key, digest = named(data)
        leave(s3, data)
        [left] = s3.unfinished()
        with (
            pytest.raises(StoreUnavailable, match="not there any more"),
            s3.writer(key, digest, SIZE, "second", resume=True) as writer,
        ):
            s3.client.upload_part(**s3.at(key), UploadId=left.handle, PartNumber=2, Body=bytes(5 * MIB))
            feed(writer, data[writer.hasher.seen :])
            writer.keep()
            writer.commit(writer.hasher.verify())
        assert leftovers(s3) == []

    @pytest.mark.parametrize(
        ("code", "status"), [("SlowDown", 503), ("QuotaExceeded", 403), ("ExpiredToken", 400)]
    )
    @pytest.mark.parametrize("verb", ["upload_part", "complete_multipart_upload"])
    def test_a_store_in_trouble_keeps_what_it_took(
        self,
        imitated: S3Store,
        data: bytes,
        monkeypatch: pytest.MonkeyPatch,
        code: str,
        status: int,
        verb: str,
    ) -> None:
        """A part or the completion is refused: nothing shows, and once the store is well the blob goes on."""
        key, digest = named(data)
        good = getattr(imitated.client, verb)

        def refuse(**given: Any) -> Any:
            if given.get("PartNumber", 4) < 4:
                return good(**given)
            answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, verb)

        monkeypatch.setattr(imitated.client, verb, refuse)
        with (
            pytest.raises((StoreUnavailable, StoreFull)),
            imitated.writer(key, digest, SIZE, "first", resume=True) as writer,
        ):
            writer.keep()
            feed(writer, data)
            writer.commit(writer.hasher.verify())
        monkeypatch.setattr(imitated.client, verb, good)
        assert imitated.stat(key) is None
        assert go_on(imitated, data) == (15 if verb == "upload_part" else 20) * MIB
        assert read(imitated, key) == data
        assert leftovers(imitated) == [key]

    def test_a_writer_that_slept_looks_before_it_sends(
        self, s3: S3Store, data: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another one has its upload by now: it stops without a word to the server."""
        key, digest = named(data)
        monkeypatch.setattr(s3_resume, "NOTE_PARTS", 1)
        late = s3.writer(key, digest, SIZE, "late", resume=True)
        late.__enter__()
        feed(late, data[: 20 * MIB + 1])
        settle(late)
        with s3.writer(key, digest, SIZE, "new", resume=True) as new:
            begun = new.hasher.seen
            assert begun == 20 * MIB
            monkeypatch.setattr(s3_resume, "ASLEEP", -1.0)
            with pytest.raises(Lost):
                feed(late, data[20 * MIB + 1 :])
                late.commit(late.hasher.verify())
            monkeypatch.undo()
            late.__exit__(Lost, Lost("it woke"), None)
            feed(new, data[begun:])
            new.commit(new.hasher.verify())
        assert read(s3, key) == data
        assert leftovers(s3) == [key]

    def test_sha512_starts_again(self, imitated: S3Store, data: bytes) -> None:
        """Its state cannot be written down here: nothing is left that nobody could use."""
        digest = Digest.of(data, "sha512")
        key = blob_key("default", digest)
        with pytest.raises(Broken), imitated.writer(key, digest, SIZE, "first", resume=True) as writer:
            feed(writer, data[:WRITTEN])
            writer.keep()
            raise Broken
        assert leftovers(imitated) == []
