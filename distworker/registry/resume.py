"""Going on where a connection broke: how often, how long, and whether an answer really continues the blob.

The rules are the strict ones: a 206 continues only with exactly one Content-Range that starts at our offset
and ends where the blob ends (RFC 9110, 15.3.7); anything else is thrown away and read from the start.
Reconnects after real progress are free, up to a cap and a time that grows with the blob, so that neither a
server that drips nor one that breaks for ever holds a reader.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from distworker.errors import (
    BlobUnknown,
    NotARegistry,
    ProtocolError,
    RequestTimeout,
    SizeMismatch,
    TransferError,
    Unavailable,
    clean,
)
from distworker.limits import SLEEP_MAX
from distworker.mediatypes import bare
from distworker.registry.call import Reply
from distworker.registry.faults import Where
from distworker.registry.http import BACKOFF
from distworker.registry.urls import Origin
from distworker.registry.waits import (
    BLOB_SECONDS_BASE,
    BLOB_SECONDS_PER_BYTE,
    FREE_RECONNECT_BYTES,
    FREE_RECONNECT_SECONDS,
    PACE_BYTES,
    RECONNECTS_MAX,
    VANISHED_WAIT,
)

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII)
_STRONG_ETAG: Final = re.compile(r'"[!#-~]*"', re.ASCII)
#: What a storage host says when its signed address got too old (S3: 403 or 400 ExpiredToken).
EXPIRED: Final = frozenset({400, 401, 403, 410})


class Again(Exception):
    """Ask once more: without Range if `whole`, and not before `wait` seconds."""

    def __init__(self, error: TransferError, whole: bool = False, wait: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.whole = whole
        self.wait = wait


class Judge:
    """Looks at the answers to one blob's requests. `home` is where they were sent first."""

    def __init__(self, where: Where, home: Origin, size: int) -> None:
        self._where = where
        self._home = home
        self._size = size

    def accept(self, reply: Reply, offset: int, ranged: bool) -> int:
        """Bytes of this body to throw away before it goes on at `offset`; raises `Again`, or why it cannot
        be used."""
        if reply.status == 200:
            self._check_length(reply, self._size)
            return offset
        if reply.status == 206 and ranged:
            self._check_range(reply, offset)
            return 0
        if reply.status == 416 and ranged:
            # Its body is not what Content-Length says (distribution): never read.
            raise Again(self._error(SizeMismatch, "is shorter there than its descriptor says"), whole=True)
        if reply.status == 404 and offset:
            raise Again(self._error(BlobUnknown, "vanished while it was being read"), wait=VANISHED_WAIT)
        if reply.origin != self._home and reply.status in {*EXPIRED, 404}:
            raise Again(self._error(Unavailable, f"was refused by the storage host ({reply.status})"))
        raise reply.error()

    def etag(self, reply: Reply) -> str:
        """Its strong ETag, if it came from the host that the next request goes to first; "" otherwise."""
        value = reply.header("ETag")
        return value if reply.origin == self._home and _STRONG_ETAG.fullmatch(value) else ""

    def ended(self, reply: Reply) -> TransferError:
        """The body is over before the blob is."""
        return self._packed(reply) or self._error(Unavailable, "stopped in the middle")

    def longer(self, reply: Reply) -> TransferError:
        """The body goes on after the blob is over."""
        what = f"is longer there than the {self._size} bytes its descriptor says"
        return self._packed(reply) or self._error(SizeMismatch, what)

    def _check_length(self, reply: Reply, expected: int) -> None:
        if reply.length is None or reply.length == expected:
            return
        if bare(reply.header("Content-Type")) == "text/html":
            raise self._error(NotARegistry, "is answered with a web page; check the host name")
        what = f"has {reply.length} bytes there instead of {expected}"
        raise self._packed(reply) or Again(self._error(SizeMismatch, what), whole=True)

    def _check_range(self, reply: Reply, offset: int) -> None:
        """Exactly one Content-Range, from our offset to the end of a blob of our size."""
        values = reply.header_values("Content-Range")
        match = _CONTENT_RANGE.fullmatch(values[0].strip()) if len(values) == 1 else None
        good = match is not None and (int(match[1]), int(match[2])) == (offset, self._size - 1)
        if match is None or not good or match[3] not in {"*", str(self._size)}:
            raise Again(self._error(ProtocolError, "came from another place than the one asked for"), True)
        self._check_length(reply, self._size - offset)

    def _packed(self, reply: Reply) -> TransferError | None:
        """The reason, when the bytes were compressed on the way though that was refused. They are not
        unpacked: what is not the blob's own bytes cannot be gone on with."""
        encoding = reply.header("Content-Encoding").strip().lower()
        if encoding in {"", "identity"}:
            return None
        words = f"was compressed on the way ({clean(encoding, 20)}), which was not asked for"
        return self._error(ProtocolError, words)

    def _error(self, kind: type[TransferError], what: str) -> TransferError:
        return kind(f"{self._where}: the blob {what}", **self._where.fields)


class Budget:
    """Reconnects allowed to one blob of `size` bytes: those after real progress are free (c/image's rule)."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._end = self._since + BLOB_SECONDS_BASE + size * BLOB_SECONDS_PER_BYTE
        self._bytes = 0
        self._spent = 0
        self._all = 0

    def progress(self, count: int) -> None:
        """`count` bytes came."""
        self._bytes += count

    def pause(self, error: TransferError) -> float:
        """Seconds to wait before the next connection; raises `error` when the budget is used up.

        A silence with no byte before it ends here: it lasts a minute, and longer patience is the ledger's.
        What a slow server sent makes a reconnect free only when it was as much as a bearable pace brings.
        """
        now, asked = self._clock(), error.delay or 0.0
        if asked > SLEEP_MAX:
            raise error
        if isinstance(error, RequestTimeout):
            if not self._bytes:
                raise error
            free = self._bytes >= PACE_BYTES
        else:
            late = now - self._since >= FREE_RECONNECT_SECONDS
            free = self._bytes >= FREE_RECONNECT_BYTES or (late and self._bytes > 0)
        self._spent = 1 if free else self._spent + 1
        self._all += 1
        if self._all > RECONNECTS_MAX or BACKOFF.exhausted(self._spent) or now >= self._end:
            raise error
        self._bytes, self._since = 0, now
        return max(asked, BACKOFF.delay(self._spent))
