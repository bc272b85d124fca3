"""A store in memory, for unit tests: the plain model that the contract suite holds the real stores against.

It keeps whole blobs in RAM, so no runner ever uses it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from distworker.blobstore.base import StoredObject, Unfinished
from distworker.blobstore.parts import READ_CHUNK, require_proof, require_room
from distworker.digest import Digest, Hasher, Verified
from distworker.errors import LimitExceeded, StoreUnavailable


class MemoryStore:
    """A dictionary behind the BlobStore protocol; safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._objects: dict[str, bytes] = {}
        self._modified: dict[str, float] = {}
        self._writes: dict[str, Unfinished] = {}
        self._kept: dict[str, tuple[str, bytes]] = {}  # by key: handle and bytes of a write that was left
        self._handles = itertools.count(1)
        self._lock = threading.Lock()

    def stat(self, key: str) -> StoredObject | None:
        data = self._objects.get(key)
        return None if data is None else StoredObject(key, len(data), self._modified[key])

    def get_bytes(self, key: str, limit: int) -> bytes | None:
        data = self._objects.get(key)
        if data is not None and len(data) > limit:
            raise LimitExceeded(f"{key} has {len(data)} bytes, more than the {limit} allowed")
        return data

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._lock:
            self._put(key, bytes(data))

    @contextmanager
    def open(self, key: str, offset: int = 0) -> Iterator[Iterator[bytes]]:
        data = self._objects.get(key)
        if data is None:
            raise FileNotFoundError(key)
        yield (data[i : i + READ_CHUNK] for i in range(offset, len(data), READ_CHUNK))

    def writer(
        self, key: str, proof_for: Digest, size: int, token: str, resume: bool = False
    ) -> MemoryWriter:
        with self._lock:
            left, data = self._kept.pop(key, ("", b"")) if resume else ("", b"")
            self._writes.pop(left, None)
            handle = str(next(self._handles))
            self._writes[handle] = Unfinished(key, handle, token, self._clock())
        return MemoryWriter(self, self._writes[handle], proof_for, size, data)

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    def move(self, key: str, to: str) -> bool:
        with self._lock:
            data = self._objects.pop(key, None)
            if data is not None:
                self._put(to, data)
        return data is not None

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        for key, data in sorted(self._objects.items()):
            if key.startswith(prefix) and key > after:
                yield StoredObject(key, len(data), self._modified[key])

    def unfinished(self) -> Iterator[Unfinished]:
        with self._lock:
            return iter(tuple(self._writes.values()))

    def discard(self, write: Unfinished) -> None:
        with self._lock:
            self._writes.pop(write.handle, None)
            if self._kept.get(write.key, ("",))[0] == write.handle:
                del self._kept[write.key]

    def leave(self, write: Unfinished, data: bytes) -> None:
        """For MemoryWriter: keep what it wrote for a later one."""
        with self._lock:
            if write.handle in self._writes:
                self._kept[write.key] = (write.handle, data)

    def check(self) -> None:
        """Memory is always there."""

    def describe(self) -> str:
        return "memory of this process"

    def show(self, write: Unfinished, data: bytes) -> None:
        """For MemoryWriter: put the finished write under its key."""
        with self._lock:
            if self._writes.pop(write.handle, None) is None:
                raise StoreUnavailable(f"the unfinished write of {write.key} was discarded by a sweep")
            self._put(write.key, data)

    def _put(self, key: str, data: bytes) -> None:
        self._modified[key] = self._clock()
        self._objects[key] = data


class MemoryWriter:
    """A write into a MemoryStore."""

    def __init__(self, store: MemoryStore, write: Unfinished, digest: Digest, size: int, data: bytes) -> None:
        self._store = store
        self._write = write
        self._digest = digest
        self._size = size
        self._data = bytearray(data)
        self._keep = False
        self.hasher = Hasher(digest, size)
        self.hasher.update(data)

    @property
    def kept(self) -> int:
        """As in `BlobWriter`."""
        return len(self._data)

    def keep(self) -> None:
        """As in `BlobWriter`."""
        self._keep = True

    def __enter__(self) -> MemoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._keep and kind is not None:
            self._store.leave(self._write, bytes(self._data))
        else:
            self._store.discard(self._write)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        require_room(self._digest, self._size, len(self._data) + len(chunk))
        self._data += chunk

    def commit(self, proof: Verified) -> None:
        require_proof(proof, self._digest, self._size, len(self._data))
        self._store.show(self._write, bytes(self._data))
