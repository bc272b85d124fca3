"""Reading from mirrors: each in its turn, the registry itself last, and nothing believed but digests.

A mirror is a server of its own: its own login (never the registry's), certificates, address rules and
connections. What goes wrong with it only brings the next one's turn; one that is away or gives wrong bytes is
left alone for a while. A blob that breaks off is gone on with elsewhere at the same byte: one hash runs over
all that was handed out, so bytes of two servers are one blob or an error. Nothing is written to a mirror.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from distworker import stopping
from distworker.digest import Digest, Hasher
from distworker.errors import (
    AuthRequired,
    BlobUnknown,
    Denied,
    ManifestUnknown,
    RepositoryUnknown,
    TransferError,
    Unauthorized,
)
from distworker.registry.base import Chunk
from distworker.registry.blobs import CHUNK, BlobStream, blob_call
from distworker.registry.call import Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where
from distworker.registry.places import Site, Spot
from distworker.registry.resume import Again, Budget, Judge
from distworker.registry.urls import origin_of
from distworker.registry.waits import MIRROR_REST

if TYPE_CHECKING:
    from distworker.registry.client import Client
    from distworker.registry.hostfiles.router import Router

log = logging.getLogger(__name__)
T = TypeVar("T")
#: Says something of one repository, and nothing against the mirror.
_NOT_THERE: Final = (BlobUnknown, ManifestUnknown, RepositoryUnknown, Unauthorized, AuthRequired, Denied)


class Resting:
    """Mirrors that failed not long ago, in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[Site, float] = {}

    def __contains__(self, site: Site) -> bool:
        return self._clock() < self._until.get(site, 0.0)

    def failed(self, site: Site, error: TransferError) -> None:
        """`site` answered with `error`."""
        if isinstance(error, _NOT_THERE):
            log.debug("mirror %s: %s", site.host, error.message)
            return
        seconds = max(MIRROR_REST, error.delay or 0.0)
        with self._lock:
            self._until[site] = self._clock() + seconds
        log.warning("mirror %s is not asked for %d s: %s", site.host, seconds, error.message)


@dataclass(frozen=True, slots=True)
class Reader:
    """A repository as it is read from one server; `site` is None for the last resort, whose error counts."""

    site: Site | None
    client: Client
    repository: str


class Mirrors:
    """The ways to read from registries. `open_site` gives the client of a site; true if nobody comes after
    it, so that it is worth waiting for."""

    def __init__(self, router: Router, resting: Resting, open_site: Callable[[Site, bool], Client]) -> None:
        self._router = router
        self._resting = resting
        self._open_site = open_site

    def first(self, home: Client, repository: str, reference: str, ask: Callable[[Client, str], T]) -> T:
        """What the first reader that has it answers to `ask` (neither None nor False); the last one's answer
        or error as it is."""
        *before, last = self.readers(home, repository, reference)
        for reader in before:
            try:
                found = ask(reader.client, reader.repository)
            except TransferError as error:
                self.failed(reader, error)
            else:
                if found:
                    return found
        return ask(last.client, last.repository)

    def readers(self, home: Client, repository: str, reference: str) -> list[Reader]:
        """Who may be asked for `reference` (tag or digest), in order; `home` is the registry itself."""
        self._router.check(Where("read", home.origin, repository, reference))
        route = self._router.route(home.origin, repository)
        found = [self._reader(spot) for spot in route.spots if self._may(spot, reference)]
        if route.last is None:
            return [*found, Reader(None, home, repository)]
        return [*found, Reader(None, self._open_site(route.last.site, True), route.last.repository)]

    def failed(self, reader: Reader, error: TransferError) -> None:
        """`reader` could not give what was asked for."""
        if reader.site is not None:
            self._resting.failed(reader.site, error)

    def _may(self, spot: Spot, reference: str) -> bool:
        allowed = spot.digests if ":" in reference else spot.tags
        return allowed and spot.site not in self._resting

    def _reader(self, spot: Spot) -> Reader:
        return Reader(spot.site, self._open_site(spot.site, False), spot.repository)


class MirroredStream(BlobStream):
    """One blob being read from the first of `readers` that gives it, and from the next where that one fails.

    Raises, besides what reading a blob raises: DigestMismatch and its like with `retry`, when bytes of a
    mirror had been handed out before they proved wrong; that mirror then rests.
    """

    def __init__(
        self,
        readers: Sequence[Reader],
        digest: Digest,
        size: int,
        *,
        failed: Callable[[Reader, TransferError], None],
        hasher: Hasher | None = None,
        chunk: int = CHUNK,
        sleep: Callable[[float], None] = stopping.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, *self._next = readers
        self._used: list[Reader] = []
        self._failed = failed
        self._clock = clock
        at = self._reader.client.at
        call = blob_call(at, self._reader.repository, digest)
        super().__init__(at, call, digest, size, hasher=hasher, chunk=chunk, sleep=sleep, clock=clock)

    def __iter__(self) -> Iterator[Chunk]:
        given = self._start > 0
        while True:
            try:
                for chunk in super().__iter__():
                    given = True
                    yield chunk
            except TransferError as error:
                spoiled = error
            else:
                return
            if given or not self._move(spoiled):
                raise self._judged(spoiled)
            self._hasher = Hasher(self._digest, self._size)

    def _judged(self, error: TransferError) -> TransferError:
        """`error`, which passes if a mirror had a part in it: it rests, and the next try goes past it."""
        mirrors = [reader for reader in self._used if reader.site is not None]
        if not mirrors or error.retry:
            return error
        for reader in mirrors:
            self._failed(reader, error)
        return type(error)(error.message, retry=True, **error.fields)

    def _connect(self) -> Reply:
        while True:
            try:
                reply = super()._connect()
            except TransferError as error:
                if not self._move(error):
                    raise
            else:
                if self._reader not in self._used:
                    self._used.append(self._reader)
                return reply

    def _open(self) -> Reply:
        try:
            return super()._open()
        except Again as again:
            if not self._next:
                raise
            error = again.error
        raise error  # somebody else has it: no second chance for this one

    def _interrupted(self, error: TransferError) -> None:
        if not self._move(error):
            super()._interrupted(error)

    def _move(self, error: TransferError) -> bool:
        """Go on with the next reader, if there is one."""
        if not self._next:
            return False
        self.close()
        self._failed(self._reader, error)
        self._reader = self._next.pop(0)
        self._at: Endpoint = self._reader.client.at
        self._call = blob_call(self._at, self._reader.repository, self._digest)
        self._where = self._call.where
        self._judge = Judge(self._where, origin_of(self._call.url), self._size)
        self._budget = Budget(self._size, self._clock)
        self._etag, self._mangled = "", False
        return True
