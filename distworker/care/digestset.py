"""A set of millions of digests in few bytes: 16 of each digest, in sorted-out heaps.

About 40 bytes a digest, those since the last `drain` included, and 20 MB for the heaps. Two digests that
agree in their first 16 bytes would count as one; to make such a pair takes 2^64 tries. `drain` gives what
came since the last time, so that a set can be kept in pieces and read back.
"""

from __future__ import annotations

from typing import Final

#: Bytes kept of each digest.
WIDTH: Final = 16
_HEAP: Final = 2
_REST: Final = WIDTH - _HEAP


class DigestSet:
    """`add` digests by their hex form, ask with `in`."""

    def __init__(self) -> None:
        self._heaps: dict[bytes, bytearray] = {}
        self._fresh = bytearray()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, hexdigits: str) -> bool:
        return self._has(bytes.fromhex(hexdigits[: 2 * WIDTH]))

    def add(self, hexdigits: str) -> bool:
        """Take it in; False when it was there."""
        entry = bytes.fromhex(hexdigits[: 2 * WIDTH])
        if not self._insert(entry):
            return False
        self._fresh += entry
        return True

    def drain(self) -> bytes:
        """What was added since this was asked last, WIDTH bytes each."""
        fresh = bytes(self._fresh)
        self._fresh.clear()
        return fresh

    def load(self, pieces: bytes) -> None:
        """Take in what `drain` gave."""
        for start in range(0, len(pieces) - WIDTH + 1, WIDTH):
            self._insert(pieces[start : start + WIDTH])

    def _insert(self, entry: bytes) -> bool:
        if self._has(entry):
            return False
        self._heaps.setdefault(entry[:_HEAP], bytearray()).extend(entry[_HEAP:])
        self._count += 1
        return True

    def _has(self, entry: bytes) -> bool:
        heap, rest = self._heaps.get(entry[:_HEAP]), entry[_HEAP:]
        if heap is None:
            return False
        place = heap.find(rest)
        while place >= 0 and place % _REST:
            place = heap.find(rest, place + 1)
        return place >= 0
