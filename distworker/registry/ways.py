"""Which of the three ways of sending a blob a registry takes, found out and remembered.

One PUT with everything is the rule: the fewest requests, and the only way for Google Artifact Registry. A
streamed PATCH and an empty PUT is what docker sends, so every registry that refuses the first knows it.
Chunks go through proxies that limit one request (Cloudflare: 100 MB) and can be resumed. A refusal leads to
the next way and is remembered for the origin, so that it costs one request a day and not one per blob; an
operator's or a table's word is final.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, Literal

from distworker.registry.learned import Facts
from distworker.registry.outcomes import WayRefused
from distworker.registry.quirks import Quirks
from distworker.registry.waits import CHUNK_CEILING, CHUNK_FLOOR, SAME_PLACE

Way = Literal["monolithic", "patch", "chunked"]
WHOLE: Final[Way] = "monolithic"
STREAM: Final[Way] = "patch"
CHUNKS: Final[Way] = "chunked"
_WAYS: Final[tuple[Way, ...]] = (WHOLE, STREAM, CHUNKS)


class Ways:
    """The ways of one origin, usable from any thread. `quirks`: what is known of it by now; all that is found
    out here goes into `facts`."""

    def __init__(self, origin: str, quirks: Callable[[], Quirks], facts: Facts) -> None:
        self._origin = origin
        self._quirks = quirks
        self._facts = facts

    def choose(self, size: int) -> Way:
        """How to send a blob of `size` bytes."""
        wanted = self._quirks().upload_mode
        if wanted != "auto":
            return wanted
        known = self._facts.get(self._origin, "upload_mode")
        way = next((one for one in _WAYS if one == known), WHOLE)
        most = self._number("monolithic_max") or self._quirks().monolithic_max
        return CHUNKS if way == WHOLE and most and size > most else way

    def instead(self, way: Way, refusal: WayRefused, size: int, tried: Collection[Way]) -> Way:
        """The next way after `way` was refused for a blob of `size` bytes; raises the registry's own error
        when none is left."""
        if self._quirks().upload_mode != "auto":
            raise refusal.error
        # Too long for one request: only chunks are shorter. Else what docker sends comes first.
        order = (CHUNKS, STREAM) if refusal.size else (STREAM, CHUNKS, WHOLE)
        found = next((one for one in order if one != way and one not in tried), None)
        if found is None:
            raise refusal.error
        if way == WHOLE and refusal.size:
            self.too_long(size)
        else:
            self._facts.put(self._origin, "upload_mode", found)
        return found

    def after_breaks(self, places: Sequence[int]) -> Way:
        """The way after one PUT with everything broke off at these bytes. Twice at about the same place is a
        proxy that allows no longer request and does not say so; it is remembered.
        """
        if self._quirks().upload_mode != "auto" or len(places) < 2 or min(places) < CHUNK_FLOOR:
            return WHOLE
        if max(places) - min(places) <= SAME_PLACE:
            self.too_long(min(places))
        return CHUNKS

    def too_long(self, size: int) -> None:
        """Remember that one request of `size` bytes does not pass."""
        most = self.chunk(0)
        while most >= size and most > CHUNK_FLOOR:
            most = max(most // 2, CHUNK_FLOOR)
        self._facts.put(self._origin, "chunk_bytes", str(most))
        self._facts.put(self._origin, "monolithic_max", str(most))

    def chunk(self, least: int) -> int:
        """Bytes of one chunk; `least` is what the registry asks for (OCI-Chunk-Min-Length)."""
        own = self._quirks().chunk_bytes
        found = self._number("chunk_bytes")
        # Facts are shared: one byte a chunk, from whomever, would be a request for each byte of a layer.
        known = max(found, min(own, CHUNK_FLOOR)) if found else own
        return min(max(known, least), CHUNK_CEILING)

    def smaller(self, chunk: int, least: int) -> int:
        """The next chunk to try after one of `chunk` bytes was too long; 0 when there is none."""
        found = max(chunk // 2, CHUNK_FLOOR, min(least, CHUNK_CEILING))
        if found >= chunk:
            return 0
        self._facts.put(self._origin, "chunk_bytes", str(found))
        return found

    @property
    def stale_range(self) -> bool:
        """Does `Range` of a PATCH's reply stand still although the bytes are stored (ECR)?"""
        return self._quirks().range_is_stale or self._facts.get(self._origin, "range_is_stale") == "yes"

    def range_was_stale(self) -> None:
        """Remember that it does."""
        self._facts.put(self._origin, "range_is_stale", "yes")

    @property
    def resumes(self) -> bool:
        """May a broken session be asked how far it got?"""
        return self._quirks().upload_resumes

    def _number(self, name: str) -> int:
        text = self._facts.get(self._origin, name)
        return int(text) if text.isascii() and text.isdigit() else 0
