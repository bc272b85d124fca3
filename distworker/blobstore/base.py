"""The store port: content-addressed blobs and small records, on S3 or in a folder.

Keys are plain paths spelled in `keys.py`. Blobs are written only through `writer`, which shows nothing under
the key until it is given the proof (`Verified`) that digest and size agree. Records go through `put_bytes`.
Every adapter maps its faults to StoreUnavailable, StoreFull or `None`/`FileNotFoundError` for a missing key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from distworker.digest import Digest, Hasher, Verified


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's key and size in bytes; `modified` is when it was put there, in seconds since 1970 by the
    store's clock. Two of the same key and size are equal."""

    key: str
    size: int
    modified: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A write that was begun and neither shown nor taken back: what a killed worker leaves behind.

    `handle` names it to the store (an upload id, a file name). `token` is the claim it was begun with, or ""
    where the store cannot tell (S3 does not list the metadata of an unfinished upload). `started` is seconds
    since 1970 by the store's clock, `size` bytes when known.
    """

    key: str
    handle: str
    token: str
    started: float
    size: int = 0


class BlobWriter(Protocol):
    """An object being written. Leaving the context without `commit` aborts and leaves nothing behind, unless
    it was told to `keep`."""

    @property
    def hasher(self) -> Hasher:
        """The hash over what an earlier writer left (`hasher.seen` bytes, 0 when this one starts anew), for
        whoever reads the rest to go on with. `write` takes what comes after those bytes."""
        ...

    @property
    def kept(self) -> int:
        """Bytes from the start that a later writer could go on from if this process died now."""
        ...

    def keep(self) -> None:
        """What was written is of use to a later writer: leave it when the context ends without `commit`."""
        ...

    def __enter__(self) -> BlobWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes (copied before returning)."""
        ...

    def commit(self, proof: Verified) -> None:
        """Show the object under its key. `proof` must be for this writer's digest and for the bytes written;
        anything else raises DigestMismatch or SizeMismatch and shows nothing."""
        ...


class BlobStore(Protocol):
    """One bucket and prefix, or one folder."""

    def stat(self, key: str) -> StoredObject | None:
        """The object, or None."""
        ...

    def get_bytes(self, key: str, limit: int) -> bytes | None:
        """A small object whole, or None when missing; LimitExceeded above `limit` bytes."""
        ...

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write a small record at once; the last writer wins."""
        ...

    def open(self, key: str, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """Stream an object from `offset` in chunks of 1-4 MiB; FileNotFoundError when missing."""
        ...

    def writer(self, key: str, proof_for: Digest, size: int, token: str, resume: bool = False) -> BlobWriter:
        """Write a blob of `size` bytes whose digest is `proof_for`; `token` names the claim that does it, so
        that a sweeper can tell an orphan from a late writer. `resume`: go on from what an earlier writer of
        the same blob left, which is this one's from now on; its bytes are hashed, never trusted."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; no error when it is not there."""
        ...

    def move(self, key: str, to: str) -> bool:
        """Give the object another key, over what may be there; False when it is not there. No byte of it
        comes through us. Killed in the middle, it leaves both."""
        ...

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """Every object below `prefix`, in key order; unfinished writes are not objects. `after`: only those
        whose key comes after this one, so that a long listing goes on where it was left."""
        ...

    def unfinished(self) -> Iterator[Unfinished]:
        """Every write that was begun here and is not finished, live ones included: the sweeper judges."""
        ...

    def discard(self, write: Unfinished) -> None:
        """Take an unfinished write back; its writer, if it still lives, fails and shows nothing. No error
        when it is gone already."""
        ...

    def check(self) -> None:
        """Write, read and delete a probe; raises the typed reason when one of them fails."""
        ...

    def describe(self) -> str:
        """Where this is, for people: no secret in it."""
        ...
