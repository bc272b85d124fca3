"""What comes in from a server, bounded in time and size below everything that reads it.

A timeout per `recv` is none: a server that sends a byte now and then holds a worker for ever, in the head, in
a body, in the sizes and trailers of a chunked one. So the socket under each response has one deadline and one
size for the whole head, and a least pace for all that follows. Only time spent waiting for the server counts,
so a reader that is slow itself is not held against it.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import time
from collections.abc import Callable
from typing import Any

from distworker.errors import ProtocolError
from distworker.limits import CHUNK_LINE_MAX, HEAD_MAX
from distworker.registry.waits import PACE_BYTES, PACE_SECONDS


class _Socket(io.RawIOBase):
    """The socket's file. The head has the socket's timeout as a whole; the body must keep its pace."""

    def __init__(self, raw: Any, sock: socket.socket, clock: Callable[[], float]) -> None:
        self._raw = raw
        self._sock = sock
        self._clock = clock
        self._read = raw.readinto
        self._waited, self._came = 0.0, 0  # waiting for the server only, not for whoever reads
        self._allowed = sock.gettimeout()
        self._until: float | None = time.monotonic() + (self._allowed or 0.0)
        self._head = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """As the socket does.

        Raises:
            TimeoutError: too slow. ProtocolError: a head larger than any registry's.
        """
        if self._until is not None:
            return self._part_of_head(buffer, self._until)
        begun = self._clock()
        count: int | None = self._read(buffer)
        # A fast body comes in tens of thousands of pieces: what is not due yet costs no call.
        self._waited += self._clock() - begun
        self._came += count or 0
        if self._waited >= PACE_SECONDS:
            if count and self._came < PACE_BYTES:
                raise TimeoutError("the body comes too slowly")
            self._waited, self._came = 0.0, 0
        return count

    def _part_of_head(self, buffer: Any, until: float) -> int | None:
        if self._allowed is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the head took too long")
            self._sock.settimeout(left)
        count: int | None = self._read(buffer)
        self._head += count or 0
        if self._head > HEAD_MAX:
            raise ProtocolError(f"the answer's headers exceed {HEAD_MAX} bytes")
        return count

    def head_ended(self) -> None:
        """From now on each read has the whole timeout again."""
        self._until = None
        with contextlib.suppress(OSError):
            self._sock.settimeout(self._allowed)

    def close(self) -> None:
        """Close the socket's file too."""
        if not self.closed:
            self._raw.close()
        super().close()


class GuardedResponse(http.client.HTTPResponse):
    """http.client's response over a guarded socket."""

    def __init__(
        self, sock: socket.socket, *args: Any, clock: Callable[[], float] = time.monotonic, **kwargs: Any
    ) -> None:
        super().__init__(sock, *args, **kwargs)
        buffered: Any = self.fp
        self._guard = _Socket(buffered.detach(), sock, clock)
        self.fp = io.BufferedReader(self._guard)

    def begin(self) -> None:
        """Read the head, past those that only announce it (RFC 8297, RFC 2518); all of them together are
        bounded as one.
        """
        super().begin()
        while 100 < self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]
            super().begin()
        self._guard.head_ended()

    # Two of http.client's own steps, which read lines for as long as the server sends some fast enough.
    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(CHUNK_LINE_MAX + 1)
        size = line.partition(b";")[0].strip()
        if len(line) > CHUNK_LINE_MAX or not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size):
            self._close_conn()  # type: ignore[attr-defined]
            raise http.client.IncompleteRead(b"")
        return int(size, 16)

    def _read_and_discard_trailer(self) -> None:
        left = HEAD_MAX
        while left > 0:
            line = self.fp.readline(left)
            left -= len(line)
            if line in {b"\r\n", b"\n", b""}:
                return
        raise http.client.IncompleteRead(b"")
