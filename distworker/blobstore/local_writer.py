"""One blob on its way into a folder: a staged file that gets its name last, and outlives a crash.

A writer holds a lock on its file for as long as it lives, which the system takes from the dead. A later
writer of the same blob takes an unlocked file over by its name (a rename, so that only one gets it) and
hashes what is in it. From a file that may still be written to, it copies the bytes instead while it hashes
them; so no late writer ever changes what another one shows.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from distworker import stopping
from distworker.blobstore.parts import MIB, READ_CHUNK, require_proof, require_room
from distworker.digest import Digest, Hasher, Verified
from distworker.errors import DistworkerError, StoreFull, StoreUnavailable

#: Smaller blobs are sooner read again than gone on with.
RESUME_MIN: Final = MIB
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class _Store(Protocol):
    """What the writer needs of its LocalStore."""

    @property
    def root(self) -> Path: ...
    def finish(self, descriptor: int, path: Path, key: str) -> None: ...


class LocalWriter:
    """A BlobWriter. `path` is its staged file, made here; `ending`: how the names of earlier ones of the same
    blob end, "" to begin anew."""

    def __init__(
        self, store: _Store, key: str, path: Path, *, digest: Digest, size: int, ending: str = ""
    ) -> None:
        self._store = store
        self._key = key
        self._path = path
        self._digest = digest
        self._size = size
        self._keep = False
        self.hasher = Hasher(digest, size)
        earlier = _largest(path.parent, ending, size) if ending and size >= RESUME_MIN else None
        self._descriptor = self._opened(earlier)
        self._written = self.hasher.seen

    @property
    def kept(self) -> int:
        """As in `BlobWriter`."""
        return self._written if self._size >= RESUME_MIN else 0

    def keep(self) -> None:
        """As in `BlobWriter`."""
        self._keep = True

    def __enter__(self) -> LocalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After a commit the staged name is gone already; what fails here must not hide the first error.
        if not (self._keep and kind is not None and self.kept):
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        require_room(self._digest, self._size, self._written + len(chunk))
        with folder_faults(self._store.root, f"write {self._key}"):
            _write(self._descriptor, chunk)
        self._written += len(chunk)

    def commit(self, proof: Verified) -> None:
        require_proof(proof, self._digest, self._size, self._written)
        self._store.finish(self._descriptor, self._path, self._key)

    # --- what an earlier writer left -----------------------------------------------------------------------
    def _opened(self, earlier: Path | None) -> int:
        """The descriptor to write to, behind what is gone on with."""
        flags = os.O_RDWR | os.O_CLOEXEC
        source = None
        if earlier is not None:
            with contextlib.suppress(OSError):
                source = os.open(earlier, flags)
        if source is None or earlier is None:
            return self._made()
        if _locked(source) and _taken(source, earlier, self._path):
            return self._hashed(source)
        try:
            mine = self._made()
            self._hashed(source, copy=mine)
        finally:
            os.close(source)
        return mine

    def _made(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _locked(descriptor)
        return descriptor

    def _hashed(self, source: int, copy: int | None = None) -> int:
        """`source`, read and hashed up to its end as it now is, and copied if wanted. A run that must stop
        leaves it for the next one."""
        left = min(os.fstat(source).st_size, self._size)
        try:
            while left and (chunk := os.read(source, min(READ_CHUNK, left))):
                stopping.check()
                if copy is not None:
                    _write(copy, chunk)
                self.hasher.update(chunk)
                left -= len(chunk)
        except BaseException:
            os.close(source if copy is None else copy)
            if copy is not None:
                self._path.unlink(missing_ok=True)
            raise
        return source


def _largest(folder: Path, ending: str, size: int) -> Path | None:
    """The staged file of that ending with the most bytes, of those that may be the beginning of the blob."""
    found: list[tuple[int, Path]] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(ending):
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.stat().st_size, Path(entry.path)))
    return max((one for one in found if 0 < one[0] <= size), default=(0, None))[1]


def _locked(descriptor: int) -> bool:
    """Is it ours alone? No where the file system has no locks: then nothing there is known to be dead."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _taken(descriptor: int, earlier: Path, path: Path) -> bool:
    """Give the file our name, unless it has another one or none by now."""
    try:
        if earlier.stat().st_ino != os.fstat(descriptor).st_ino:
            return False
        earlier.rename(path)
        os.utime(descriptor)  # a sweep sees that somebody is at it again
    except FileNotFoundError:
        return False
    return True


def _write(descriptor: int, chunk: bytes | bytearray | memoryview) -> None:
    with memoryview(chunk) as view:
        done = 0
        while done < len(view):
            done += os.write(descriptor, view[done:])


@contextmanager
def folder_faults(root: Path, action: str) -> Iterator[None]:
    """Turns the system's errors into the port's. A folder that cannot be made or used is one of them, also
    where the system calls it missing; only who asks for an object handles that it is not there."""
    try:
        yield
    except DistworkerError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        where = f"the store in folder {root} cannot {action}: {reason}"
        if error.errno in _FULL:
            raise StoreFull(f"{where}; free some space or name another folder") from error
        raise StoreUnavailable(
            f"{where}; store.folder (or --store) must name a folder that this user may make or write to"
        ) from error
