"""Reading blobs: HEAD, and a GET that hashes while it streams and goes on where the connection broke.

Every (re)connect starts at the registry, which signs a fresh address of its storage; the last chunk is handed
out only after size and digest agree; a server that ignores or garbles Range is read from the start with the
bytes already handed out skipped, and since the hash is over what was handed out, nothing can be spliced
(distribution-spec, "Pulling blobs").
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Final

from distworker.digest import Digest, Hasher, Verified
from distworker.errors import (
    BlobUnknown,
    DigestMismatch,
    InternalError,
    ProtocolError,
    RequestTimeout,
    SizeMismatch,
    TransferError,
    Unavailable,
)
from distworker.registry import faults, scopes
from distworker.registry.base import Chunk
from distworker.registry.call import Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where
from distworker.registry.http import BACKOFF
from distworker.registry.waits import FREE_RECONNECT_BYTES, FREE_RECONNECT_SECONDS, RECONNECTS_MAX

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
#: What a storage host says when its signed address got too old.
_EXPIRED: Final = frozenset({400, 401, 403, 410})
#: Bytes read at once. Larger is not faster (128 KiB is slower), and a slot with a tee may hold seven of them.
CHUNK: Final = 1 << 18


def has_blob(at: Endpoint, repository: str, digest: Digest) -> bool:
    """HEAD the blob; anything unclear counts as no, faults and refused logins raise."""
    where = at.where("head blob", repository, digest)
    call = Call("HEAD", at.blob(repository, digest), where, scopes=(scopes.pull(repository),))
    with at.http.send(call) as reply:
        return reply.status == 200


class _Again(Exception):
    """Ask once more, without Range if `whole`."""

    def __init__(self, error: TransferError, whole: bool = False) -> None:
        self.error = error
        self.whole = whole


class BlobStream:
    """One blob being read. Iterate once; close it, or use it as a context manager."""

    def __init__(
        self,
        at: Endpoint,
        repository: str,
        digest: Digest,
        size: int,
        *,
        chunk: int = CHUNK,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._at = at
        self._repository = repository
        self._digest = digest
        self._size = size
        self._chunk = chunk
        self._sleep = sleep
        self._where: Where = at.where("get blob", repository, digest)
        self._hasher = Hasher(digest, size)
        self._verified: Verified | None = None
        self._reply: Reply | None = None
        self._budget = _Budget()
        self._lies = 0
        self._mangled = False
        self._ranges = True

    def __enter__(self) -> BlobStream:
        """Connect at once, so that a missing blob is known before anything is prepared for it."""
        if self._size:
            self._connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.close()

    @property
    def verified(self) -> Verified:
        """The proof; InternalError before the iteration ended."""
        if self._verified is None:
            raise InternalError("a blob's proof was asked for before all of it was read")
        return self._verified

    def __iter__(self) -> Iterator[Chunk]:
        held: bytes | None = None
        handed_out = False
        for chunk in self._pieces():
            if held is not None:
                yield held
                handed_out = True
            held = chunk
        try:
            self._verified = self._hasher.verify()
        except DigestMismatch as error:
            if handed_out or self._mangled:
                raise faults.prefixed(error, self._where) from None
            # A cache or proxy may have mangled it; nobody saw a byte yet, so one clean read is free.
            self._mangled = True
            self.close()
            self._hasher = Hasher(self._digest, self._size)
            yield from self
            return
        if held is not None:
            yield held

    def _pieces(self) -> Iterator[bytes]:
        """Hashed chunks, over as many connections as it takes."""
        while self._hasher.seen < self._size:
            try:
                piece = self._next_piece()
            except TransferError as error:
                self._interrupted(error)
                continue
            if piece:
                self._budget.progress(len(piece))
                yield piece
        self._expect_end()

    def _next_piece(self) -> bytes:
        reply = self._reply or self._connect()
        piece = reply.piece(min(self._chunk, self._size - self._hasher.seen))
        if not piece:
            raise Unavailable(
                f"{self._where}: the registry stopped in the middle of the blob", **self._where.fields
            )
        self._hasher.update(piece)
        return piece

    def _expect_end(self) -> None:
        """One byte more than the descriptor says is one too many."""
        if self._reply is not None and self._reply.length is None and self._reply.piece(1):
            raise SizeMismatch(
                f"{self._where}: more than the {self._size} bytes its descriptor says", **self._where.fields
            )

    def _interrupted(self, error: TransferError) -> None:
        """Wait and let the loop reconnect, or give up with `error`."""
        self.close()
        if not isinstance(error, Unavailable | RequestTimeout):
            raise faults.located(error, self._where)
        self._sleep(self._budget.pause(error))

    # --- connecting -----------------------------------------------------------------------------------------
    def _connect(self) -> Reply:
        """A reply whose next byte is the first one still missing."""
        while True:
            try:
                self._reply = self._open()
            except _Again as again:
                self._ranges = self._ranges and not again.whole
                fault = again.error
            else:
                return self._reply
            if not fault.retry:
                self._lies += 1
                if self._lies > 1:
                    raise fault
            self._sleep(self._budget.pause(fault))

    def _open(self) -> Reply:
        offset = self._hasher.seen
        ranged = offset > 0 and self._ranges
        headers = {"Range": f"bytes={offset}-"} if ranged else {}
        url = self._at.blob(self._repository, self._digest)
        call = Call("GET", url, self._where, scopes=(scopes.pull(self._repository),), headers=headers)
        reply = self._at.http.send(call)
        try:
            self._judge(reply, offset, ranged)
        except BaseException:
            reply.close()
            raise
        return reply

    def _judge(self, reply: Reply, offset: int, ranged: bool) -> None:
        if reply.status == 200:
            self._check_length(reply, self._size)
            self._skip(reply, offset)
        elif reply.status == 206 and ranged:
            self._check_range(reply, offset)
        elif reply.status == 416 and ranged:
            # Its body is not what Content-Length says (distribution): never read.
            raise _Again(self._error(SizeMismatch, "is shorter there than its descriptor says"), whole=True)
        elif reply.status == 404 and offset:
            raise _Again(self._error(BlobUnknown, "vanished while it was being read"))
        elif reply.origin != self._at.http.origin and reply.status in {*_EXPIRED, 404}:
            raise _Again(self._error(Unavailable, f"was refused by the storage host ({reply.status})"))
        else:
            raise reply.error()

    def _check_length(self, reply: Reply, expected: int) -> None:
        if reply.length is not None and reply.length != expected:
            raise _Again(
                self._error(SizeMismatch, f"has {reply.length} bytes there instead of {expected}"), True
            )

    def _check_range(self, reply: Reply, offset: int) -> None:
        """Exactly one Content-Range, from our offset to the end of a blob of our size."""
        values = reply.header_values("Content-Range")
        match = _CONTENT_RANGE.fullmatch(values[0].strip()) if len(values) == 1 else None
        good = match is not None and (int(match[1]), int(match[2])) == (offset, self._size - 1)
        if match is None or not good or match[3] not in {"*", str(self._size)}:
            raise _Again(
                self._error(ProtocolError, "came from another place than the one asked for"), whole=True
            )
        self._check_length(reply, self._size - offset)

    def _skip(self, reply: Reply, count: int) -> None:
        """Throw away what was handed out already: the server ignored Range or was not asked for it."""
        while count > 0:
            piece = reply.piece(min(self._chunk, count))
            if not piece:
                raise Unavailable(f"{self._where}: the registry stopped in the middle of the blob")
            count -= len(piece)

    def _error(self, kind: type[TransferError], what: str) -> TransferError:
        return kind(f"{self._where}: the blob {what}", **self._where.fields)


class _Budget:
    """Reconnects allowed: those after real progress are free, up to a cap (c/image's rule)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._bytes = 0
        self._spent = 0
        self._all = 0

    def progress(self, count: int) -> None:
        """`count` bytes came."""
        self._bytes += count

    def pause(self, error: TransferError) -> float:
        """Seconds to wait before the next connection; raises `error` when the budget is used up.

        A silence with no byte before it ends here: it lasts a minute, and longer patience is the ledger's.
        """
        late = self._clock() - self._since >= FREE_RECONNECT_SECONDS
        free = self._bytes >= FREE_RECONNECT_BYTES or (late and self._bytes > 0)
        if isinstance(error, RequestTimeout) and not self._bytes:
            raise error
        self._spent = 1 if free else self._spent + 1
        self._all += 1
        if self._all > RECONNECTS_MAX or BACKOFF.exhausted(self._spent):
            raise error
        self._bytes, self._since = 0, self._clock()
        return BACKOFF.delay(self._spent)
