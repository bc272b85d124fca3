"""A blob sent by PATCH, in one stream or in chunks, and the search for where it stood when one failed.

After a 416, a server error or a broken connection the session is asked how far it got and the blob goes on
from there; what cannot be known for sure (`Range: 0-0` means one byte or none, ECR's stands still) ends the
session instead, for a byte too many or too few would only show in the digest at the very end. An upload with
no progress is given up soon, one with some after `PATCH_FAULTS_MAX` faults (distribution-spec, "Pushing a
blob in chunks").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from distworker.digest import Digest
from distworker.errors import (
    ProtocolError,
    RequestTimeout,
    Throttled,
    TransferError,
    Unavailable,
    UploadSessionLost,
)
from distworker.limits import SLEEP_MAX
from distworker.registry import sessions
from distworker.registry.base import SessionNotes, UploadSession
from distworker.registry.bodies import Source
from distworker.registry.call import Reply
from distworker.registry.commit import send
from distworker.registry.endpoint import Endpoint
from distworker.registry.http import BACKOFF
from distworker.registry.outcomes import Unclear, WayRefused, another_way, refused, too_long
from distworker.registry.sessions import TAKEN, next_byte
from distworker.registry.waits import PATCH_FAULTS_MAX
from distworker.registry.ways import Ways

#: The registry holds another part of the blob than the request begins with.
_OUT_OF_STEP: Final = "RANGE_INVALID"


class Patches:
    """One session's PATCHes. `chunk`: bytes of one request at most, 0 for everything in one stream. `held`:
    what the session has already."""

    def __init__(
        self,
        at: Endpoint,
        session: UploadSession,
        digest: Digest,
        source: Source,
        ways: Ways,
        sleep: Callable[[float], None],
        *,
        chunked: bool,
        held: int = 0,
        notes: SessionNotes | None = None,
    ) -> None:
        self.session = session  #: as the newest reply left it
        self.believed = False  #: was a `Range` believed that said less than the reply's status?
        self._at = at
        self._digest = digest
        self._source = source
        self._ways = ways
        self._sleep = sleep
        self._chunk = ways.chunk(session.min_chunk) if chunked else 0
        self._held = held  # bytes the registry holds, as far as it told
        self._notes = notes
        self._idle = 0  # failures since the last progress
        self._faults = 0

    def run(self) -> None:
        """Send everything.

        Raises:
            WayRefused: the registry does not take blobs like this. Unclear: the session is of no more use.
            Throttled, Quota, Denied, …: why it refused.
        """
        while self._held < self._source.size:
            left = self._source.size - self._held
            count = min(self._chunk or left, left)
            try:
                with self._patch(count) as reply:
                    self._answered(reply, count)
            except (Unavailable, RequestTimeout, Throttled) as error:
                self._after(error, count)

    def _patch(self, count: int) -> Reply:
        first, last = self._held, self._held + count - 1
        headers = {"Content-Type": "application/octet-stream"}
        if self._chunk or first:
            headers["Content-Range"] = f"{first}-{last}"  # inclusive, and without a unit
        return send(
            self._at,
            self.session,
            self._digest,
            ("PATCH", self.session.location),
            lambda: self._source.span(first, count),
            headers,
        )

    def _answered(self, reply: Reply, count: int) -> None:
        if reply.status in TAKEN:
            self.session = sessions.moved(self.session, reply)
            self._took(reply, count)
        elif too_long(reply):
            self._shorten(reply)
        elif reply.status == 416 or reply.problem.code == _OUT_OF_STEP:
            self._out_of_step(reply, count)
        else:
            way = another_way(reply) if not self._held else None
            raise way or refused(reply)

    def _took(self, reply: Reply, count: int) -> None:
        """The chunk was taken; a `Range` that says only a part of it was is believed."""
        end = self._held + count
        stated = next_byte(reply.header("Range"))
        if stated is None or self._ways.stale_range:
            stated = end
        elif stated > end:
            raise Unclear(self._contradiction(stated, end), stored=False)
        elif stated <= self._held:
            # "Taken, and nothing of it": ECR's Range stands still (aws/containers-roadmap#2831).
            self._ways.range_was_stale()
            stated = end
        if stated < end:
            self.believed = True
            self._failed(self._contradiction(stated, end))
        self._idle = 0
        self._held = stated
        if self._notes and self._chunk:
            self._notes(self.session, stated)

    def _shorten(self, reply: Reply) -> None:
        """One request was too long."""
        if not self._chunk:
            raise WayRefused(reply.error(), size=True)
        smaller = self._ways.smaller(self._chunk, self.session.min_chunk)
        if not smaller:
            raise WayRefused(reply.error(), size=True)
        self._chunk = smaller  # whoever refuses a length has stored nothing of it

    def _out_of_step(self, reply: Reply, count: int) -> None:
        self._failed(reply.error())
        if self._ask(count, hint=next_byte(reply.header("Range"))):
            return
        if self._held:
            raise Unclear(sessions.lost(reply), stored=False)
        # Nothing was stored, so it is the length it refuses: GHCR above 4 MiB (rust-oci-client#35).
        raise WayRefused(reply.error())

    def _after(self, error: TransferError, count: int) -> None:
        """A request failed: wait, and find out what became of it."""
        if (error.delay or 0.0) > SLEEP_MAX:
            raise error
        self._failed(error)
        self._sleep(BACKOFF.delay(self._idle) if error.delay is None else error.delay)
        if isinstance(error, Throttled):
            return  # refused before anything was read
        if not self._ask(count):
            raise Unclear(error, stored=False)

    def _ask(self, count: int, hint: int | None = None) -> bool:
        """Go on where the registry says it got to; False when it has no word that can be relied on. `hint`:
        what the refusal itself said, for registries that are not asked."""
        if not self._ways.resumes or self._ways.stale_range:
            return False
        try:
            self.session, stated = sessions.ask(self._at, self.session, self._digest)
        except (Unavailable, RequestTimeout, UploadSessionLost) as lost:
            raise Unclear(lost, stored=False) from None
        stated = hint if stated is None else stated
        if stated is None:
            return False
        if stated > self._held + count:
            raise Unclear(self._contradiction(stated, self._held + count), stored=False)
        if stated > self._held:
            self._idle = 0
        self._held = stated
        return True

    def _failed(self, error: TransferError) -> None:
        """Count a failure; ends the session when there were too many, or too many without progress."""
        self._faults += 1
        self._idle += 1
        if self._faults > PATCH_FAULTS_MAX or BACKOFF.exhausted(self._idle):
            raise Unclear(error, stored=False)

    def _contradiction(self, stated: int, sent: int) -> TransferError:
        where = self._at.where("send blob", self.session.repository, self._digest)
        return ProtocolError(
            f"{where}: the registry says it holds {stated} bytes after {sent} were sent", **where.fields
        )
