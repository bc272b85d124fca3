"""Sending blobs: open a session, send in the way this registry takes, and find out what became of it.

A session that is lost, a way that is refused and an outcome nobody knows each lead to another turn with a
fresh session and the body opened anew, at most `SESSIONS_MAX` times for reasons that are not the way. Before
anything is sent again a HEAD settles whether the registry holds the blob after all. Whatever happens, a
session that is of no more use is cancelled, and that never hides the first error. One of an earlier run is
gone on with only between chunks, where the registry says how far it got.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from distworker import stopping
from distworker.digest import Digest
from distworker.errors import (
    DigestMismatch,
    DistworkerError,
    Draining,
    LimitExceeded,
    Lost,
    StateUnavailable,
    TransferError,
)
from distworker.registry import commit, mount, sessions
from distworker.registry.base import BodyFactory, SessionNotes, UploadSession
from distworker.registry.blobs import has_blob
from distworker.registry.bodies import Source
from distworker.registry.endpoint import Endpoint
from distworker.registry.http import BACKOFF
from distworker.registry.learned import Facts
from distworker.registry.outcomes import Unclear, WayRefused
from distworker.registry.patches import Patches
from distworker.registry.waits import SESSIONS_MAX
from distworker.registry.ways import CHUNKS, WHOLE, Way, Ways

log = logging.getLogger(__name__)


@dataclass
class _Blob:
    """One blob on its way, and what was tried."""

    repository: str
    digest: Digest
    source: Source
    way: Way
    session: UploadSession | None
    tried: set[Way] = field(default_factory=set)
    broke: list[int] = field(default_factory=list)  #: bytes at which whole PUTs broke off
    failures: int = 0
    notes: SessionNotes | None = None
    held: int = 0  #: bytes that the session held when it was taken up
    owed: list[UploadSession] = field(default_factory=list)  #: to be cancelled yet: nobody answered
    mismatches: int = 0  #: of those, the registry's word that it got other bytes


class Uploader:
    """Sends blobs to one registry, from any thread."""

    def __init__(self, at: Endpoint, facts: Facts, sleep: Callable[[float], None] = stopping.sleep) -> None:
        self._at = at
        self._sleep = sleep
        self._ways = Ways(at.registry, lambda: at.quirks, facts)

    def upload(
        self,
        repository: str,
        digest: Digest,
        size: int,
        body: BodyFactory,
        session: UploadSession | None = None,
        notes: SessionNotes | None = None,
    ) -> None:
        """Send the blob; return once the registry holds it.

        Raises:
            DigestMismatch: the registry got other bytes, twice. UploadSessionLost: it kept forgetting the
            session, or the body exists only once and is used up. LimitExceeded: it is known to keep no blob
            as large. Denied, Quota, Throttled, …: why it refused.
        """
        self._check_size(repository, digest, size, session)
        with contextlib.closing(Source(body, size)) as source:
            blob = _Blob(repository, digest, source, self._ways.choose(size), session, notes=notes)
            if session is not None and session.begun:
                self._take_up(blob, session)
            try:
                self._turns(blob)
            finally:
                for owed in blob.owed:  # a registry in its restart was not there to be told
                    self.cancel(owed)

    def _turns(self, blob: _Blob) -> None:
        while True:
            blob.session = blob.session or self._open(blob)
            if blob.session is None or self._turn(blob, blob.session):
                return
            blob.session, blob.held = None, 0

    def _take_up(self, blob: _Blob, session: UploadSession) -> None:
        """Go on in a session of an earlier run behind what it holds, where that can be known; else drop it.
        Only between two chunks is it known: what became of a single stream is not."""
        blob.session = None
        if blob.way == CHUNKS and self._ways.resumes and not self._ways.stale_range:
            try:
                found, held = sessions.ask(self._at, session, blob.digest)
            except TransferError as error:
                log.info("an upload session cannot be gone on with: %s", error)
            else:
                if held is not None and held <= blob.source.size:
                    blob.session, blob.held = found, held
                    return
        self.cancel(session)

    def _check_size(self, repository: str, digest: Digest, size: int, session: UploadSession | None) -> None:
        most = self._at.quirks.blob_max
        if most and size > most:
            if session:
                self.cancel(session)
            where = self._at.where("start upload", repository, digest)
            raise LimitExceeded(
                f"{where}: the blob has {size} bytes; {self._at.registry} keeps none above {most}",
                **where.fields,
            )

    def _open(self, blob: _Blob) -> UploadSession | None:
        """A session; None when the registry gave what it has in a repository of its own choice."""
        if self._at.quirks.mounts == "anonymous" and not blob.tried and not blob.failures:
            return mount.mount_blob(self._at, blob.repository, blob.digest, (), anonymous=True)
        return sessions.start_upload(self._at, blob.repository, blob.digest)

    def _turn(self, blob: _Blob, session: UploadSession) -> bool:
        """One session; True when the registry holds the blob, False for another turn."""
        held = left = False
        if blob.notes:
            blob.notes(session, blob.held)
        try:
            self._send(blob, session)
            held = True
        except (Lost, Draining):
            # Whoever takes the step next goes on between two chunks, if anybody remembers the session.
            left = blob.notes is not None and blob.way == CHUNKS and self._ways.resumes
            raise
        except WayRefused as refusal:
            blob.tried.add(blob.way)
            blob.way = self._ways.instead(blob.way, refusal, blob.source.size, blob.tried)
        except Unclear as unclear:
            held = self._settle(blob, unclear)
        finally:
            if not held and not left and _ours() and not self.cancel(blob.session or session):
                blob.owed.append(blob.session or session)
        return held

    def _send(self, blob: _Blob, session: UploadSession) -> None:
        if not blob.source.size:
            commit.close(self._at, session, blob.digest, self._sleep)
        elif blob.way == WHOLE:
            commit.put_whole(self._at, session, blob.digest, blob.source)
        else:
            self._patch(blob, session)

    def _patch(self, blob: _Blob, session: UploadSession) -> None:
        patches = Patches(
            self._at,
            session,
            blob.digest,
            blob.source,
            self._ways,
            self._sleep,
            chunked=blob.way == CHUNKS,
            held=blob.held,
            notes=blob.notes,
        )
        try:
            patches.run()
        finally:
            blob.session = patches.session
        try:
            commit.close(self._at, patches.session, blob.digest, self._sleep)
        except Unclear as unclear:
            if patches.believed and isinstance(unclear.error, DigestMismatch):
                self._ways.range_was_stale()  # believing it sent some bytes twice
            raise

    def _settle(self, blob: _Blob, unclear: Unclear) -> bool:
        """Does the registry hold the blob after all? A commit may end just after its reply broke, so it is
        asked twice. Raises when enough was tried.
        """
        error = unclear.error
        blob.failures += 1
        blob.mismatches += isinstance(error, DigestMismatch)
        if has_blob(self._at, blob.repository, blob.digest):
            return True
        self._sleep(BACKOFF.delay(blob.failures) if error.delay is None else error.delay)
        if unclear.stored and has_blob(self._at, blob.repository, blob.digest):
            return True
        if blob.failures >= SESSIONS_MAX or blob.mismatches > 1:
            raise error
        if blob.way == WHOLE and blob.source.position < blob.source.size:
            blob.broke.append(blob.source.position)
            blob.way = self._ways.after_breaks(blob.broke)
        return False

    def cancel(self, session: UploadSession) -> bool:
        """Best effort; never raises, and never waits long. False: nobody answered."""
        # Quay wants a right for it that pushers are not given.
        return self._at.quirks.cancel_needs_delete or sessions.cancel_upload(self._at, session)


def _ours() -> bool:
    """May this run still cancel its session? Whoever has its step now may have gone on with it."""
    try:
        stopping.fence()
    except (Lost, StateUnavailable):
        return False
    except DistworkerError:
        pass  # it was stopped for another reason
    return True
