"""What an import reads from: a folder, a tar archive, or a gzipped one.

A gzipped archive is unpacked into a file without a name first, because its parts are not read in their order;
what expands endlessly is refused on the way. Names asked for come from checked digests or from the archive's
own list; a folder gives regular files only.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast

from distworker.care.tarball import TarArchive
from distworker.errors import ArchiveInvalid, InvalidRequest, LimitExceeded, StoreFull
from distworker.limits import GIB, MIB

_CHUNK: Final = MIB
#: What a gzipped archive may grow to, whatever its ratio, and how many times its size beyond that.
_FREE: Final = GIB
_RATIO: Final = 200
#: Beginnings of archives that are packed in another way.
_PACKED: Final = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"PK\x03\x04": "zip"}


class Archive(Protocol):
    """Files by name."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when there is none."""
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file; ArchiveInvalid when there is none."""
        ...

    def close(self) -> None:
        """No more reading."""
        ...


class FolderArchive:
    """Regular files below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def size(self, name: str) -> int | None:
        try:
            path = (self._root / name).resolve()
            found = path.stat()
        except (OSError, ValueError, RuntimeError):
            return None
        # Neither `..` nor a link leads out of the folder.
        return found.st_size if stat.S_ISREG(found.st_mode) and path.is_relative_to(self._root) else None

    def chunks(self, name: str) -> Iterator[bytes]:
        if self.size(name) is None:
            raise ArchiveInvalid(f"the folder has no file {name}")
        try:
            with (self._root / name).open("rb", buffering=0) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise ArchiveInvalid(f"{name} cannot be read: {error.strerror}") from None

    def close(self) -> None:
        """Nothing is open between two reads."""


def open_archive(path: Path) -> Archive:
    """What `path` is.

    Raises:
        InvalidRequest: there is nothing to read.
        ArchiveInvalid: it is no archive that is read here.
        StoreFull: no room to unpack it.
    """
    try:
        if path.is_dir():
            return FolderArchive(path)
        # A pipe that nobody writes to must not be waited for.
        file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115, PTH123
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}", field="path") from None
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidRequest(f"{path} is neither a file nor a folder", field="path")
        head = file.read(8)
        file.seek(0)
        for magic, name in _PACKED.items():
            if head.startswith(magic):
                raise ArchiveInvalid(f"{path} is packed with {name}; unpack it first, or pack it with gzip")
        if head.startswith(b"\x1f\x8b"):
            with file:
                return _tar(_unpacked(file))
    except BaseException:
        file.close()
        raise
    return _tar(file)


def read_small(archive: Archive, name: str, limit: int) -> bytes:
    """A small file whole; LimitExceeded above `limit` bytes."""
    if (archive.size(name) or 0) > limit:
        raise LimitExceeded(f"{name} in the archive has more than the {limit} bytes allowed")
    return b"".join(archive.chunks(name))


def _tar(file: BinaryIO) -> TarArchive:
    try:
        return TarArchive(file)
    except BaseException:
        file.close()
        raise


def _unpacked(packed: BinaryIO) -> BinaryIO:
    # Without a name from its first moment, so that nothing is left behind however this ends.
    out = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - handed to the archive
    try:
        total = 0
        with gzip.GzipFile(fileobj=packed) as file:
            while chunk := file.read(_CHUNK):
                total += len(chunk)
                if total > max(_FREE, _RATIO * packed.tell()):
                    raise LimitExceeded(f"the archive expands more than {_RATIO} times; it is no image")
                out.write(chunk)
        out.flush()
    except (gzip.BadGzipFile, zlib.error, EOFError):
        out.close()
        raise ArchiveInvalid("the archive is damaged: its compressed bytes do not end well") from None
    except OSError as error:
        with contextlib.suppress(OSError):
            out.close()
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(f"no room to unpack the archive in {tempfile.gettempdir()}; set TMPDIR") from None
        raise
    except BaseException:
        out.close()
        raise
    return out
