"""Small files that hold secrets: read at use, bounded, and read again when they changed.

A file counts as changed when its device, inode, size or time of change is another, so a rename over it and
a rotated link of a mounted Kubernetes secret are both seen; while it is only just written, it is read each
time. Only regular files are opened: a pipe would hang the worker. No error holds what was read, nor does an
error of a parser hang below ours, since it would keep the text.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from distworker.errors import ConfigInvalid

#: What errors of logins say was being done.
PHASE: Final = "log in"
#: Real ones are a few KiB; anything larger is the wrong file.
FILE_MAX: Final = 1 << 20
#: Seconds after a change in which a second one may leave the same size and time behind.
_SETTLED: Final = 2.0

T = TypeVar("T")
_Stamp = tuple[int, int, int, int]


def read_secret(path: str, host: str, name: str, key: str) -> str:
    """The text of a password or token file without its final newline.

    `host` and `name` are the registry and the login it is for, `key` the settings key that names the file.

    Raises:
        ConfigInvalid: missing, unreadable, empty, too large or not text.
    """
    what = f"credential {name!r}: its {key} {path}"
    try:
        data, _ = _read(Path(path))
        text = _text(data, Path(path), key).rstrip("\r\n")
        problem = "" if text else "is empty; write the secret into it"
    except OSError as error:
        problem = f"cannot be read: {_reason(error)}; put it there, or correct {key}"
    if problem:
        raise ConfigInvalid(f"{what} {problem}", field=key, phase=PHASE, registry=host)
    return text


class Watched(Generic[T]):
    """What `parse` makes of a file's text; `empty` while the file is missing or empty."""

    def __init__(self, path: Path, parse: Callable[[str], T], empty: T, key: str) -> None:
        self._path = path
        self._parse = parse
        self._empty = empty
        self._key = key
        self._lock = threading.Lock()
        self._stamp: _Stamp | None = None
        self._value = empty

    def get(self) -> T:
        """The value of the file as it is now.

        Raises:
            ConfigInvalid: it cannot be read or parsed.
        """
        with self._lock:
            try:
                if self._stamp is not None and self._stamp == _stamp(self._path.stat()):
                    return self._value
                data, found = _read(self._path)
            except (FileNotFoundError, NotADirectoryError):
                self._stamp = None
                return self._empty
            except OSError as error:
                raise ConfigInvalid(
                    f"cannot read {self._path}: {_reason(error)}", field=self._key, phase=PHASE
                ) from None
            text = _text(data, self._path, self._key)
            self._value = self._parse(text) if text.strip() else self._empty
            self._stamp = _stamp(found) if time.time() - found.st_mtime > _SETTLED else None
            return self._value


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    # Non-blocking, or opening a pipe that nobody writes to would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is not a regular file")
        return file.read(FILE_MAX + 1), found


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _text(data: bytes, path: Path, key: str) -> str:
    if len(data) > FILE_MAX:
        raise ConfigInvalid(
            f"{path} is larger than any credential file; name another file", field=key, phase=PHASE
        )
    text: str | None = None
    with contextlib.suppress(ValueError):
        text = data.decode("utf-8-sig")
    if text is None:
        raise ConfigInvalid(f"{path} is not UTF-8 text; write it anew", field=key, phase=PHASE)
    return text
