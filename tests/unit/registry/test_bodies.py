"""Spans of a body: opened where they begin, one piece in memory, never of another length."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from distworker.errors import InternalError, UploadSessionLost
from distworker.registry.base import Body, Chunk
from distworker.registry.bodies import Source, Span

DATA = bytes(range(256)) * 40
MIB = 1 << 20


class Piecewise:
    """A body of `size` bytes in pieces; says when it was closed."""

    def __init__(self, data: bytes, piece: int, closed: list[bool]) -> None:
        self.data, self.piece, self.closed = data, piece, closed

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Chunk]:
        try:
            for at in range(0, len(self.data), self.piece):
                yield self.data[at : at + self.piece]
        finally:
            self.closed.append(True)


def source(piece: int = 1000, data: bytes = DATA) -> tuple[Source, list[int], list[bool]]:
    """A source over `data`, the offsets at which it is opened, and a mark for each stream that ended."""
    opened: list[int] = []
    closed: list[bool] = []

    def body(offset: int) -> Body:
        opened.append(offset)
        return Piecewise(data[offset:], piece, closed)

    return Source(body, len(DATA)), opened, closed


def read(span: Span) -> bytes:
    """All of it."""
    return b"".join(bytes(piece) for piece in span)


@pytest.mark.parametrize("piece", [1, 7, 1000, 5000, 20_000])
@pytest.mark.parametrize("count", [1, 999, 1000, 4096, len(DATA)])
def test_spans_in_a_row_are_one_stream(piece: int, count: int) -> None:
    """Whatever the pieces and the spans, the bytes are the body's, and it is opened once."""
    made, opened, _ = source(piece)
    got = b""
    for at in range(0, len(DATA), count):
        span = made.span(at, min(count, len(DATA) - at))
        assert len(span) == min(count, len(DATA) - at)
        got += read(span)
    assert (got, opened) == (DATA, [0])


def test_a_span_that_begins_elsewhere_opens_the_body_there() -> None:
    """Back, forward, and again from the start; what was open is closed."""
    made, opened, closed = source()
    assert read(made.span(0, 2500)) == DATA[:2500]
    assert read(made.span(1200, 10)) == DATA[1200:1210]
    assert read(made.span(9000, 1240)) == DATA[9000:]
    assert read(made.span(0, 10)) == DATA[:10]
    assert opened == [0, 1200, 9000, 0]
    assert len(closed) == 3
    made.close()
    assert len(closed) == 4
    made.close()


def test_a_request_that_sent_nothing_does_not_use_a_stream_up() -> None:
    """A stream that exists once survives a connection that was refused."""
    opened: list[int] = []

    def body(offset: int) -> Body:
        if opened:
            raise UploadSessionLost("used up")
        opened.append(offset)
        return Piecewise(DATA, 1000, [])

    made = Source(body, len(DATA))
    made.span(0, len(DATA))
    assert read(made.span(0, len(DATA))) == DATA
    with pytest.raises(UploadSessionLost):
        made.span(0, len(DATA))


@pytest.mark.parametrize("data", [DATA + b"x", DATA[:-1], b""], ids=["longer", "shorter", "empty"])
def test_a_body_that_announces_another_length_is_not_sent(data: bytes) -> None:
    """It is known before the request."""
    made, _, _ = source(data=data)
    with pytest.raises(InternalError):
        made.span(0, 10)


@pytest.mark.parametrize("data", [DATA + b"x", DATA[:-1]], ids=["longer", "shorter"])
def test_a_body_that_does_not_keep_its_word_is_found_out(data: bytes) -> None:
    """At the last span, where it shows."""

    class Liar(Piecewise):
        def __len__(self) -> int:
            return len(DATA)

    made = Source(lambda offset: Liar(data, 1000, []), len(DATA))
    assert read(made.span(0, 5000)) == DATA[:5000]
    with pytest.raises(InternalError):
        read(made.span(5000, len(DATA) - 5000))


def test_a_chunk_is_never_held_in_memory() -> None:
    """A span of 64 MiB costs its pieces, not itself."""
    size, piece = 64 * MIB, bytes(MIB)

    class Zeros:
        def __len__(self) -> int:
            return size

        def __iter__(self) -> Iterator[Chunk]:
            for _ in range(size // MIB):
                yield bytearray(piece)

    made = Source(lambda offset: Zeros(), size)
    tracemalloc.start()
    try:
        count = sum(len(one) for one in made.span(0, size))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == size
    assert peak < 4 * MIB
