"""The part buffers of a process: its writers together hold a bounded number, and a buffer is used again.

A writer always gets its first buffer; a second one, to fill while the first is sent, only while the process
is below its bound: few writers get speed, many keep to the memory. Reuse is not for speed: an allocator that
saw a block of 8 MiB freed serves such blocks from its heaps from then on, keeps them for each thread, and a
worker grows by twice what it needs (glibc, mallopt(3), M_MMAP_THRESHOLD).
"""

from __future__ import annotations

import threading
from typing import Final

from distworker.blobstore.parts import MIB

#: Blobs up to this many bytes get a buffer of their own size, no larger than what the network side allocates.
SMALL: Final = MIB
_ZEROS: Final = bytes(64 * 1024)


class Part(bytearray):
    """A buffer that is counted. Its user may shorten it."""


class PartBuffers:
    """Buffers of `size` bytes, at most `bound` of them unless more writers are open. Safe for threads."""

    def __init__(self, size: int, bound: int) -> None:
        self._size = size
        self._bound = bound
        self._used = 0
        self._free: list[Part] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> bytearray:
        """A buffer of `size` bytes with anything in it; `give` it back."""
        if size <= SMALL:
            return bytearray(size)
        with self._lock:
            return self._take(size)

    def spare(self, size: int) -> bytearray | None:
        """One more, or None when it would be the last: that one is for the writer that comes next."""
        with self._lock:
            return self._take(size) if self._used + 1 < self._bound else None

    def give(self, buffer: bytearray, again: bool = True) -> None:
        """Take a buffer back; its giver must not touch it any more. Not `again`: somebody else still may."""
        if not isinstance(buffer, Part):
            return
        while again and len(buffer) < self._size:
            buffer += _ZEROS[: self._size - len(buffer)]
        with self._lock:
            self._used -= 1
            if again and len(buffer) == self._size and len(self._free) + self._used < self._bound:
                self._free.append(buffer)

    def _take(self, size: int) -> Part:
        self._used += 1
        if self._free:
            kept = self._free.pop()
            if size <= self._size:
                return kept
        return Part(max(size, self._size))
