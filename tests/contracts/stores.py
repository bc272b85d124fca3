"""The stores that the contract is held against, and small ways to use one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from moto import mock_aws

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import blob_key
from distworker.blobstore.s3 import S3Options, S3Store
from distworker.digest import Digest, Hasher
from distworker.errors import StoreUnavailable

MIB = 1024 * 1024
#: Parts as small as S3 allows, so that 17 MiB are four of them.
PART = 5 * MIB
#: What a writer gets whose upload was swept. Servers answer NoSuchUpload; moto stumbles over its own state.
GONE = (StoreUnavailable, KeyError, ValueError)


def imitated_s3() -> Iterator[S3Store]:
    """The S3 adapter with its requests answered inside this process."""
    with mock_aws():
        store = S3Store(
            S3Options("bucket", access_key="key", secret_key="secret", prefix="p", part_size=PART)
        )
        store.client.meta.events.register_first("before-send.s3", body_as_bytes)
        one_at_a_time(store.client)
        store.make_bucket()
        yield store
        store.close()


def one_at_a_time(client: Any) -> None:
    """The imitation changes its dictionaries from whichever thread calls; a server would not mind."""
    call, lock = client._make_api_call, threading.Lock()

    def locked(operation: str, arguments: dict[str, Any]) -> Any:
        with lock:
            return call(operation, arguments)

    client._make_api_call = locked


def body_as_bytes(request: Any, **_: Any) -> None:
    """The imitation takes bodies apart by type and knows no bytearray; a socket takes both."""
    if isinstance(request.body, bytearray):
        request.body = bytes(request.body)


def real_s3(options: S3Options) -> Iterator[S3Store]:
    """The S3 adapter and a server that checks signatures and parts."""
    store = S3Store(replace(options, part_size=PART))
    yield store
    store.close()


def named(data: bytes) -> tuple[str, Digest]:
    """The key and digest of `data`."""
    digest = Digest.of(data)
    return blob_key("default", digest), digest


def put(store: BlobStore, data: bytes, token: str = "claim1", chunk: int = 100_000) -> str:
    """Write `data` as a blob, properly; returns its key."""
    key, digest = named(data)
    hasher = Hasher(digest, len(data))
    with store.writer(key, digest, len(data), token) as writer:
        for start in range(0, len(data), chunk):
            piece = data[start : start + chunk]
            hasher.update(piece)
            writer.write(piece)
        writer.commit(hasher.verify())
    return key


def read(store: BlobStore, key: str, offset: int = 0) -> bytes:
    """The object's bytes from `offset`."""
    with store.open(key, offset) as chunks:
        return b"".join(chunks)


def leftovers(store: BlobStore) -> list[str]:
    """Keys of everything visible or begun."""
    return [o.key for o in store.list("")] + [u.key for u in store.unfinished()]
