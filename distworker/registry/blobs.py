"""Reading blobs: HEAD, and a GET that hashes while it streams and goes on where the connection broke.

Every (re)connect starts at the registry, which signs a fresh address of its storage; the last chunk is handed
out only after size and digest agree; a server that ignores or garbles Range is read from the start with the
bytes already handed out skipped (so is a reading that begins in the middle), and since the hash is over all
bytes from the first, nothing can be spliced (distribution-spec, "Pulling blobs"). The two blobs that
everybody knows, no bytes and `{}`, are not asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from distworker import stopping
from distworker.digest import Digest, Hasher, Verified
from distworker.errors import (
    DigestMismatch,
    InternalError,
    RequestTimeout,
    SizeMismatch,
    TransferError,
    Unavailable,
)
from distworker.registry import faults, scopes
from distworker.registry.base import Chunk
from distworker.registry.call import PAST_CACHES, Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.resume import EXPIRED, Again, Budget, Judge
from distworker.registry.urls import origin_of

#: Bytes read at once. Larger is not faster (128 KiB is slower), and a slot with a tee may hold seven of them.
CHUNK: Final = 1 << 18
#: Statuses with which a registry says that it does not do HEAD, rather than that there is no blob.
_NO_HEAD: Final = frozenset({400, 405, 501})
#: Contents that every image shares; an artifact's empty config is the second (image-spec, "guidance for an
#: empty descriptor").
_CONSTANTS: Final = (b"", b"{}")


def has_blob(at: Endpoint, repository: str, digest: Digest, size: int | None = None) -> bool:
    """HEAD the blob; faults and refused logins raise.

    A registry without HEAD, a storage host that signed only GET (artifact-keeper #3209), and one known to say
    200 of what it lacks (gardener/cc-utils #1752) are asked for the first byte. What is then still unclear
    counts as no, and so does another size than `size` if given.
    """
    call = Call(
        "HEAD",
        at.blob(repository, digest),
        at.where("head blob", repository, digest),
        scopes=(scopes.pull(repository),),
    )
    with at.http.send(call) as reply:
        abroad = reply.origin != at.http.origin
        unclear = reply.status in _NO_HEAD or (abroad and reply.status in EXPIRED)
        # Some registries say 0 of everything.
        there = reply.status == 200 and (size is None or reply.length in {None, 0, size})
        unclear = unclear or (there and not at.quirks.blob_head_trusted)
    return _gives_blob(at, call, size) if unclear else there


def _gives_blob(at: Endpoint, head: Call, size: int | None) -> bool:
    """Is there a first byte to read? The rest is not."""
    with at.http.send(replace(head, method="GET", headers={"Range": "bytes=0-0"})) as reply:
        if reply.status == 416:
            return not size  # there are no bytes in it
        total = reply.header("Content-Range").rpartition("/")[2] if reply.status == 206 else ""
        length = int(total) if total.isascii() and total.isdigit() else None
        length = reply.length if reply.status == 200 else length
        return reply.status in {200, 206} and (size is None or length in {None, size})


def blob_call(at: Endpoint, repository: str, digest: Digest) -> Call:
    """The request that reads a blob from its registry."""
    where = at.where("get blob", repository, digest)
    return Call("GET", at.blob(repository, digest), where, scopes=(scopes.pull(repository),))


class BlobStream:
    """One blob being read, `call` being how it is asked for. Iterate once; close it, or use it as a context
    manager."""

    def __init__(
        self,
        at: Endpoint,
        call: Call,
        digest: Digest,
        size: int,
        *,
        hasher: Hasher | None = None,
        chunk: int = CHUNK,
        sleep: Callable[[float], None] = stopping.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at = at
        self._call = call
        self._where = call.where
        self._digest = digest
        self._size = size
        self._chunk = chunk
        self._sleep = sleep
        self._hasher = hasher or Hasher(digest, size)
        self._start = self._hasher.seen
        self._verified: Verified | None = None
        self._reply: Reply | None = None
        self._judge = Judge(call.where, origin_of(call.url), size)
        self._budget = Budget(size, clock)
        self._etag = ""
        self._lies = 0
        self._mangled = False
        self._ranges = True
        self._known = next((data for data in _CONSTANTS if digest == Digest.of(data, digest.algorithm)), None)

    def __enter__(self) -> BlobStream:
        """Connect at once, so that a missing blob is known before anything is prepared for it."""
        if not self._size if self._known is None else len(self._known) != self._size:
            raise SizeMismatch(
                f"{self._where}: its descriptor says {self._size} bytes, which no blob of this digest has",
                **self._where.fields,
            )
        if self._known is None and self._start < self._size:
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
        handed_out = self._start > 0
        for chunk in self._pieces():
            if held is not None:
                yield held
                handed_out = True
            held = chunk
        try:
            self._verified = self._hasher.verify()
        except DigestMismatch as error:
            if handed_out or self._mangled or self._known is not None:
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
        if self._known is not None:
            self._hasher.update(self._known)
            if self._known:
                yield self._known
            return
        while self._hasher.seen < self._size:
            try:
                piece = self._next_piece()
            except TransferError as error:
                self._interrupted(error)
                continue
            self._budget.progress(len(piece))
            yield piece
        self._expect_end()

    def _next_piece(self) -> bytes:
        reply = self._reply or self._connect()
        piece = reply.piece(min(self._chunk, self._size - self._hasher.seen))
        if not piece:
            raise self._judge.ended(reply)
        self._hasher.update(piece)
        return piece

    def _expect_end(self) -> None:
        """One byte more than the descriptor says is one too many."""
        reply = self._reply
        if reply is None or reply.length is not None:
            return
        try:
            more = reply.piece(1)
        except (Unavailable, RequestTimeout):
            return  # however the connection ended, the digest says whether this is all of it
        if more:
            raise self._judge.longer(reply)

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
            except Again as again:
                self._ranges = self._ranges and not again.whole
                fault, wait = again.error, again.wait
            else:
                return self._reply
            if not fault.retry:
                self._lies += 1
                if self._lies > 1:
                    raise fault
            self._sleep(max(wait, self._budget.pause(fault)))

    def _open(self) -> Reply:
        offset = self._hasher.seen
        ranged = offset > 0 and self._ranges
        fresh = self._mangled and not offset
        reply = self._at.http.send(replace(self._call, headers=self._headers(offset, ranged), fresh=fresh))
        try:
            self._skip(reply, self._judge.accept(reply, offset, ranged))
            self._etag = self._judge.etag(reply)
        except BaseException:
            reply.close()
            raise
        return reply

    def _headers(self, offset: int, ranged: bool) -> Mapping[str, str]:
        headers = {**self._call.headers, **(PAST_CACHES if self._mangled else {})}
        if ranged:
            headers["Range"] = f"bytes={offset}-"
            if self._etag:
                headers["If-Range"] = self._etag
        return headers

    def _skip(self, reply: Reply, count: int) -> None:
        """Throw away what was handed out already: the server ignored Range or was not asked for it."""
        while count > 0:
            piece = reply.piece(min(self._chunk, count))
            if not piece:
                raise self._judge.ended(reply)
            count -= len(piece)
