"""One demo in one folder: two would empty each other's ledger and share a registry's data.

The lock is the kernel's, on a file that stays: it ends with the process, however that ends.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "lock"


class FolderTaken(Exception):
    """Another demo runs in the folder; the text says what to do."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else inside for as long; makes the folder. Raises FolderTaken."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderTaken(
                f"another demo runs in {folder}; stop it, or name another folder: DISTWORKER_DEMO_DIR=..."
            ) from None
        yield
