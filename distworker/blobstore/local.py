"""A store in a folder: the staging area of local mode, and a store for one machine or a shared file system.

A write goes to a file in `.staging/` of the same folder, is synced, and is renamed to its key last, so a key
never names half an object, whatever is killed when. File names are the keys, so the folder of a tenant reads
as the layout of `keys.py`. Where the file system ignores case, tags that differ only in it share one record.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from distworker.blobstore.base import StoredObject, Unfinished
from distworker.blobstore.keys import decode, encode
from distworker.blobstore.local_writer import LocalWriter, folder_faults
from distworker.blobstore.parts import READ_CHUNK
from distworker.blobstore.probe import probe
from distworker.digest import Digest
from distworker.errors import InvalidRequest, LimitExceeded, StoreUnavailable

#: Folder of unfinished writes. It begins with a dot, which no key does.
STAGING: Final = ".staging"

#: What a key that names no object may end in.
_MISSING: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
#: Bytes of a key in a staged file's name; 255 are allowed in all.
_KEY_ROOM: Final = 170


class LocalStore:
    """A BlobStore in the folder `root`, made on first use.

    With `durable`, a file is synced to the disk before it is shown; without, a power cut may leave a file
    whose bytes do not match its name (a destination would refuse it by digest).
    """

    def __init__(self, root: Path | str, durable: bool = True) -> None:
        self.root: Final = Path(root)
        self._durable = durable

    def stat(self, key: str) -> StoredObject | None:
        with folder_faults(self.root, f"look at {key}"):
            try:
                found = self._path(key).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return StoredObject(key, found.st_size, found.st_mtime) if stat.S_ISREG(found.st_mode) else None

    def get_bytes(self, key: str, limit: int) -> bytes | None:
        with folder_faults(self.root, f"read {key}"):
            try:
                with self._path(key).open("rb") as file:
                    data = file.read(limit + 1)
            except _MISSING:
                return None
        if len(data) > limit:
            raise LimitExceeded(f"{key} has more than the {limit} bytes allowed")
        return data

    def put_bytes(self, key: str, data: bytes) -> None:
        with folder_faults(self.root, f"write {key}"):
            path = self._stage(key, "")
            try:
                with path.open("xb") as file:
                    file.write(data)
                    self._sync(file.fileno())
                self._show(path, key)
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def open(self, key: str, offset: int = 0) -> Iterator[Iterator[bytes]]:
        with folder_faults(self.root, f"open {key}"):
            try:
                file = self._path(key).open("rb", buffering=0)
            except _MISSING:
                file = None
        if file is None:
            raise FileNotFoundError(key)
        with file:
            file.seek(offset)
            yield _chunks(self.root, file.fileno(), key)

    def writer(self, key: str, proof_for: Digest, size: int, token: str, resume: bool = False) -> LocalWriter:
        with folder_faults(self.root, f"write {key}"):
            path = self._stage(key, token)
            # Only a whole key in a name tells that it is the same blob.
            ending = f"@{encode(key)}" if resume and len(encode(key)) <= _KEY_ROOM else ""
            return LocalWriter(self, key, path, digest=proof_for, size=size, ending=ending)

    def delete(self, key: str) -> None:
        with folder_faults(self.root, f"delete {key}"), contextlib.suppress(NotADirectoryError):
            self._path(key).unlink(missing_ok=True)

    def move(self, key: str, to: str) -> bool:
        with folder_faults(self.root, f"move {key}"):
            try:
                source = self._path(key)
                if not stat.S_ISREG(source.stat().st_mode):
                    return False
                self._show(source, to)
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        folder, _, start = prefix.rpartition("/")
        base = self._path(folder) if folder else self.root
        yield from self._walk(base, f"{folder}/" if folder else "", start, after)

    def unfinished(self) -> Iterator[Unfinished]:
        with folder_faults(self.root, "list unfinished writes"):
            try:
                with os.scandir(self.root / STAGING) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except FileNotFoundError:
                return
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                info = entry.stat()
                token, _, rest = entry.name.partition("@")
                key = decode(rest.partition("@")[2])
                yield Unfinished(key, entry.name, decode(token), info.st_mtime, info.st_size)

    def discard(self, write: Unfinished) -> None:
        if "/" in write.handle or write.handle.startswith("."):
            raise InvalidRequest("not the handle of an unfinished write", field="handle")
        with folder_faults(self.root, "discard an unfinished write"):
            (self.root / STAGING / write.handle).unlink(missing_ok=True)

    def check(self) -> None:
        probe(self)

    def describe(self) -> str:
        return f"folder {self.root}"

    def finish(self, descriptor: int, path: Path, key: str) -> None:
        """For LocalWriter: sync a staged file and show it under its key."""
        with folder_faults(self.root, f"write {key}"):
            self._sync(descriptor)
            try:
                self._show(path, key)
            except FileNotFoundError:
                raise StoreUnavailable(f"the unfinished write of {key} was discarded by a sweep") from None

    def _stage(self, key: str, token: str) -> Path:
        self._path(key)
        folder = self.root / STAGING
        folder.mkdir(parents=True, exist_ok=True)
        # `@` is never in an encoded name. The key is kept for the sweeper, as far as a name has room for it.
        return folder / f"{encode(token or '-')[:64]}@{secrets.token_hex(8)}@{encode(key)[:_KEY_ROOM]}"

    def _show(self, path: Path, key: str) -> None:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        if self._durable:
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _sync(self, descriptor: int) -> None:
        if self._durable:
            os.fsync(descriptor)

    def _path(self, key: str) -> Path:
        segments = key.split("/")
        if not all(segments) or "\0" in key or any(segment[0] == "." for segment in segments):
            raise InvalidRequest(f"{key!r} is not a store key", field="key")
        return self.root.joinpath(*segments)

    def _walk(self, folder: Path, prefix: str, start: str, after: str) -> Iterator[StoredObject]:
        with folder_faults(self.root, f"list {prefix or 'the store'}"):
            try:
                # A folder sorts as its name with the slash, so that keys come out in byte order.
                with os.scandir(folder) as found:
                    entries = sorted((e.name + "/" * e.is_dir(), e) for e in found)
            except (FileNotFoundError, NotADirectoryError):
                return
        for name, entry in entries:
            key = prefix + name
            if name[0] == "." or not name.startswith(start):
                continue
            if key <= after and not (key.endswith("/") and after.startswith(key)):
                continue
            if name.endswith("/"):
                yield from self._walk(Path(entry.path), key, "", after)
            else:
                with contextlib.suppress(FileNotFoundError):
                    info = entry.stat()
                    yield StoredObject(key, info.st_size, info.st_mtime)


def _chunks(root: Path, descriptor: int, key: str) -> Iterator[bytes]:
    while True:
        with folder_faults(root, f"read {key}"):
            chunk = os.read(descriptor, READ_CHUNK)
        if not chunk:
            return
        yield chunk
