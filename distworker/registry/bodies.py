"""The bytes of one blob on their way out, handed to requests span by span.

A registry may take a blob in one request or in many, and any request may have to be repeated. `Source` keeps
one stream open and cuts it into spans without ever holding more than the piece at hand; a span that does not
begin where the last one ended opens the body anew at that offset, so a stream that exists only once still
serves any number of chunks in a row. It never sends a body of another length than was announced: too many
bytes would run into the next request, too few would hang it.
"""

from __future__ import annotations

from collections.abc import Iterator

from distworker.registry import faults
from distworker.registry.base import BodyFactory, Chunk


class Source:
    """A blob of `size` bytes that `body` opens at any offset, for one thread. Close it in the end."""

    def __init__(self, body: BodyFactory, size: int) -> None:
        self.size = size
        self.position = 0  #: bytes from the blob's start up to where the stream stands
        self._body = body
        self._stream: Iterator[Chunk] | None = None
        self._left = memoryview(b"")

    def span(self, first: int, count: int) -> Span:
        """The bytes `first` to `first + count - 1`, as the body of one request; opened before it is sent.

        Raises whatever the body raises when it cannot be opened there.
        """
        if self._stream is None or self.position != first:
            self.close()
            opened = self._body(first)
            if len(opened) != self.size - first:
                raise faults.wrong_body_length(self.size)
            self._stream, self.position = iter(opened), first
        return Span(self, count, last=first + count == self.size)

    def read(self, limit: int) -> memoryview | None:
        """The next piece, cut to `limit` bytes; None at the stream's end."""
        while not self._left:
            found = next(self._stream, None) if self._stream is not None else None
            if found is None:
                return None
            self._left = memoryview(found)
        piece, self._left = self._left[:limit], self._left[limit:]
        self.position += len(piece)
        return piece

    def close(self) -> None:
        """Let go of the stream."""
        stream, self._stream, self._left = self._stream, None, memoryview(b"")
        close = getattr(stream, "close", None)
        if close is not None:
            close()


class Span:
    """The body of one request. Iterate it once: a repeated request asks its `Source` for another."""

    def __init__(self, source: Source, count: int, *, last: bool) -> None:
        self._source = source
        self._count = count
        self._last = last

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Chunk]:
        left = self._count
        while left > 0 and (piece := self._source.read(left)) is not None:
            left -= len(piece)
            yield piece
        if left or (self._last and self._source.read(1) is not None):
            raise faults.wrong_body_length(self._source.size)
