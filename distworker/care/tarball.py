"""Tar archives of strangers, read strictly; and archives of our own, written as a stream.

Only what image archives consist of is read: files, folders and links, in the formats ustar, pax and GNU. A
name is a key here and never a path of this machine. Refused: names that leave the archive, a name that comes
twice, sparse files, devices, endless headers. Nothing is read into memory but headers.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from distworker.errors import ArchiveInvalid
from distworker.limits import BLOB_MAX, KIB, MIB

BLOCK: Final = 512
#: Entries of one archive, and bytes of all their names.
ENTRIES_MAX: Final = 100_000
_NAMES_MAX: Final = 64 * MIB
#: Bytes of one long name, or of one entry's extended header.
_NAME_MAX: Final = 4 * KIB
_PAX_MAX: Final = 64 * KIB
_CHUNK: Final = MIB
_LINKS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the archive: where its bytes are. Or, with `target`, a link to another one; one that begins
    with a slash counts from the top."""

    offset: int
    size: int
    target: str = ""


@dataclass(slots=True)
class _Extended:
    """What extended headers say of the entry that follows."""

    name: str = ""
    target: str = ""
    size: int | None = None


class TarArchive:
    """The files of an uncompressed archive by name. `close` closes the file it reads from."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries: dict[str, Entry] = {}
        names = 0
        for name, entry in _entries(file):
            names += len(name)
            if name in self._entries:
                raise ArchiveInvalid(f"the archive has {_shown(name)} twice")
            if len(self._entries) >= ENTRIES_MAX or names > _NAMES_MAX:
                raise ArchiveInvalid(f"the archive has more than {ENTRIES_MAX} entries, or endless names")
            self._entries[name] = entry

    def size(self, name: str) -> int | None:
        """Bytes of a file, through links; None when there is none."""
        entry = self._find(name)
        return None if entry is None else entry.size

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file; several may be read at a time."""
        entry = self._find(name)
        if entry is None:
            raise ArchiveInvalid(f"the archive has no {_shown(name)}")
        place, end = entry.offset, entry.offset + entry.size
        while place < end:
            chunk = os.pread(self._file.fileno(), min(_CHUNK, end - place), place)
            if not chunk:
                raise ArchiveInvalid(f"the archive ends within {_shown(name)}")
            place += len(chunk)
            yield chunk

    def close(self) -> None:
        """No more reading."""
        self._file.close()

    def _find(self, name: str) -> Entry | None:
        for _ in range(_LINKS_MAX):
            entry = self._entries.get(name)
            if entry is None or not entry.target:
                return entry
            name = posixpath.normpath(posixpath.join("/", posixpath.dirname(name), entry.target))[1:]
        raise ArchiveInvalid(f"links of the archive lead in a circle at {_shown(name)}")


def header(name: str, size: int, *, folder: bool = False) -> bytes:
    """The header of an entry, the same for the same arguments."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, 0, 0o755 if folder else 0o644
    info.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
    return info.tobuf(tarfile.GNU_FORMAT)


def write_file(out: BinaryIO, name: str, size: int, chunks: Iterable[bytes]) -> None:
    """Append a file whose size is known."""
    out.write(header(name, size))
    written = 0
    for chunk in chunks:
        out.write(chunk)
        written += len(chunk)
    _pad(out, written)


def write_unmeasured(out: BinaryIO, name: str, chunks: Iterable[bytes]) -> None:
    """Append a file whose size shows at its end; `out` must be seekable, the size below 256 GiB."""
    start = out.tell()
    out.write(bytes(BLOCK))
    written = 0
    for chunk in chunks:
        out.write(chunk)
        written += len(chunk)
    _pad(out, written)
    end = out.tell()
    out.seek(start)
    out.write(header(name, written))
    out.seek(end)


def write_end(out: BinaryIO) -> None:
    """The two empty blocks after the last entry."""
    out.write(bytes(2 * BLOCK))


def _pad(out: BinaryIO, size: int) -> None:
    out.write(bytes(-size % BLOCK))


# --- reading headers ---------------------
def _entries(file: BinaryIO) -> Iterator[tuple[str, Entry]]:
    total = file.seek(0, os.SEEK_END)
    place, extended = 0, _Extended()
    while place < total:
        block = os.pread(file.fileno(), BLOCK, place)
        if block == bytes(BLOCK):
            return
        if len(block) < BLOCK or not _sums_up(block):
            raise ArchiveInvalid("this is no tar archive, or a damaged one")
        kind, size = block[156:157], _number(block[124:136])
        body = place + BLOCK
        if kind in b"xgLK":
            if size > (_PAX_MAX if kind in b"xg" else _NAME_MAX):
                raise ArchiveInvalid("an extended header of the archive is too long")
            _extend(extended, kind, os.pread(file.fileno(), size, body))
            place = _after(body, size, total)
            continue
        size = size if extended.size is None else extended.size
        name = _clean(extended.name or _name(block))
        if kind in b"12":
            target = extended.target or _text(block[157:257])
            if not target:
                raise ArchiveInvalid(f"the archive has {_shown(name)}, a link to nothing")
            # What a hard link names counts from the top of the archive.
            yield name, Entry(0, 0, f"/{target}" if kind == b"1" else target)
            size = 0
        elif kind in b"\x0007":
            yield name, Entry(body, size)
        elif kind != b"5":
            raise ArchiveInvalid(f"the archive has {_shown(name)}, which is neither file, folder nor link")
        place, extended = _after(body, 0 if kind == b"5" else size, total), _Extended()


def _after(body: int, size: int, total: int) -> int:
    if size > BLOB_MAX or body + size > total:
        raise ArchiveInvalid("an entry of the archive is longer than the archive")
    return body + size + -size % BLOCK


def _extend(extended: _Extended, kind: bytes, data: bytes) -> None:
    if kind == b"L":
        extended.name = _text(data)
    elif kind == b"K":
        extended.target = _text(data)
    else:
        _pax(extended, data, everywhere=kind == b"g")


def _pax(extended: _Extended, data: bytes, *, everywhere: bool) -> None:
    while data:
        digits, space, _ = data.partition(b" ")
        if not space or not digits.isdigit() or len(digits) > 6 or not len(digits) < int(digits) <= len(data):
            raise ArchiveInvalid("an extended header of the archive is damaged")
        record, data = data[len(digits) + 1 : int(digits)], data[int(digits) :]
        key, _, value = record.removesuffix(b"\n").partition(b"=")
        if key.startswith(b"GNU.sparse") or (everywhere and key in (b"path", b"size", b"linkpath")):
            raise ArchiveInvalid("the archive has sparse files, or one name or size for all its files")
        if key == b"path":
            extended.name = _text(value)
        elif key == b"linkpath":
            extended.target = _text(value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 15:
                raise ArchiveInvalid("a size in the archive is no number")
            extended.size = int(value)


def _sums_up(block: bytes) -> bool:
    try:
        wanted = int(_text(block[148:156]).strip() or "-1", 8)
    except ValueError:
        return False
    return wanted == sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise ArchiveInvalid("a size in the archive is negative or endless")
        return int.from_bytes(field[1:], "big")
    try:
        value = int(_text(field).strip() or "0", 8)
    except ValueError:
        value = -1
    if value < 0:
        raise ArchiveInvalid("a size in the archive is no number")
    return value


def _name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _clean(name: str) -> str:
    if len(name) > _NAME_MAX or name.startswith("/") or ".." in name.split("/"):
        raise ArchiveInvalid(f"the archive has {_shown(name)}, a name that leads out of it")
    return posixpath.normpath(name) if name else ""


def _shown(name: str) -> str:
    return repr(name[:80].encode("ascii", "replace").decode())
