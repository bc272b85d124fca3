"""The S3 store on a real server: restarts, large blobs, forks, and what a killed worker leaves."""

from __future__ import annotations

import multiprocessing
import os
import threading
import tracemalloc
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from deploy.demo.servers import Swift
from distworker.blobstore.keys import blob_key
from distworker.blobstore.s3 import S3Options, S3Store
from distworker.blobstore.s3_copy import copy
from distworker.digest import Digest, Hasher, verify_bytes
from distworker.errors import StoreUnavailable
from tests.conftest import swift_options

pytestmark = pytest.mark.servers

MIB = 1024 * 1024


@pytest.mark.parametrize("buffers", [1, 3])
def test_a_blob_of_many_parts_is_the_same_afterwards(s3_options: S3Options, buffers: int) -> None:
    """40 MiB in parts of 5 MiB, with and without a second buffer, in chunks that fit nowhere."""
    store = S3Store(replace(s3_options, part_size=5 * MIB, buffers=buffers))
    data = os.urandom(40 * MIB)
    digest = Digest.of(data)
    key = blob_key("default", digest)
    with store.writer(key, digest, len(data), "claim1") as writer:
        for start in range(0, len(data), MIB + 4099):
            writer.write(data[start : start + MIB + 4099])
        assert store.stat(key) is None
        writer.commit(verify_bytes(data, digest))
    hasher = Hasher(digest, len(data))
    with store.open(key) as chunks:
        for chunk in chunks:
            hasher.update(chunk)
    hasher.verify()
    with store.open(key, 23 * MIB + 1) as chunks:
        assert b"".join(chunks) == data[23 * MIB + 1 :]
    store.close()


def test_memory_does_not_follow_the_blob(s3_options: S3Options) -> None:
    """200 MiB through a writer with 8 MiB parts: two buffers and little else are held."""
    store = S3Store(s3_options)
    chunk = bytes(4 * MIB)
    digest = Digest.parse("sha256:" + "0" * 64)
    store.check()
    tracemalloc.start()
    with store.writer("default/blobs/sha256/x", digest, 200 * MIB, "claim1") as writer:
        for _ in range(50):
            writer.write(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    store.close()
    assert peak < 24 * MIB


def test_what_was_shown_outlives_the_server_and_what_was_not_stays_unseen(
    tmp_path: Path, swift: Swift
) -> None:
    """The server dies in the middle of an upload: finished blobs are there afterwards, the unfinished one is
    not, its writer fails with one typed error, and the same work succeeds when run again."""
    with Swift(tmp_path / "swift", venv=swift.venv) as server:
        store = S3Store(swift_options(server, part_size=5 * MIB, attempts=1))
        store.make_bucket()
        store.put_bytes("default/jobs/j1/request.json", b"{}")
        data = os.urandom(12 * MIB)
        digest = Digest.of(data)
        key = blob_key("default", digest)
        with pytest.raises(StoreUnavailable), store.writer(key, digest, len(data), "claim1") as writer:
            writer.write(data[: 6 * MIB])
            server.kill9()
            writer.write(data[6 * MIB :])
            writer.commit(verify_bytes(data, digest))
        server.start()
        assert store.get_bytes("default/jobs/j1/request.json", 10) == b"{}"
        assert store.stat(key) is None
        with store.writer(key, digest, len(data), "claim2") as writer:
            writer.write(data)
            writer.commit(verify_bytes(data, digest))
        [left] = store.unfinished()
        assert left.key == key
        store.discard(left)
        assert [o.key for o in store.list("")] == [key, "default/jobs/j1/request.json"]
        store.close()


def test_an_object_too_large_for_one_copy_is_copied_in_parts(s3_options: S3Options) -> None:
    """The real limit is 5 GB; a smaller one takes the same way. A missing source leaves nothing."""
    store = S3Store(s3_options)
    data = os.urandom(12 * MIB + 77)
    store.put_bytes("a", data)
    copy(store.client, store.at("a"), store.at("b"), limit=5 * MIB)
    with store.open("b") as chunks:
        assert b"".join(chunks) == data
    with pytest.raises(ClientError):
        copy(store.client, store.at("nothing"), store.at("c"), limit=5 * MIB)
    assert [o.key for o in store.list("")] == ["a", "b"]
    assert list(store.unfinished()) == []
    store.close()


def test_stores_of_one_bucket_keep_to_their_prefix(s3_options: S3Options) -> None:
    """Neither lists, sees nor deletes what is the other's."""
    one, two = S3Store(s3_options), S3Store(replace(s3_options, prefix=f"{s3_options.prefix}-other"))
    one.put_bytes("a", b"1")
    two.put_bytes("a", b"2")
    two.delete("a")
    assert [o.key for o in one.list("")] == ["a"]
    assert list(two.list("")) == []
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secret_key": "wrong"}, "correct them"),
        ({"access_key": "no:body"}, "correct"),
        ({"bucket": "nobody-made-this"}, "create it"),
    ],
)
def test_wrong_settings_are_told_with_their_remedy(
    s3_options: S3Options, change: dict[str, str], words: str
) -> None:
    """A real server's refusals, not only scripted ones."""
    store = S3Store(replace(s3_options, **change))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match=words):
        store.check()
    store.close()


def _child(store: S3Store, pipe: Connection) -> None:
    """Uses the parent's store object after a fork."""
    try:
        mine = store.client
        pipe.send((store.get_bytes("a", 10), id(mine)))
    finally:
        store.close()


def test_a_forked_worker_makes_its_own_client(s3_options: S3Options) -> None:
    """A connection shared over a fork would mix two processes' answers."""
    store = S3Store(s3_options)
    store.put_bytes("a", b"x")
    before = id(store.client)
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_child, args=(store, there))
    child.start()
    data, made = here.recv()
    child.join(20)
    assert child.exitcode == 0
    assert data == b"x"
    assert made != before
    assert store.get_bytes("a", 10) == b"x"
    assert id(store.client) == before
    store.close()
    here.close()
    there.close()


def test_threads_share_one_client(s3_options: S3Options) -> None:
    """Made once, however many slots ask first at the same time."""
    store = S3Store(s3_options)
    seen: set[int] = set()
    threads = [threading.Thread(target=lambda: seen.add(id(store.client))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    store.close()
