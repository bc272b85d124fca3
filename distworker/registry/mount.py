"""Mounting a blob from another repository of the same registry (distribution-spec, "Mounting a blob").

201 is a mount, 202 an ordinary session that must be used or cancelled, anything else a refusal. The
likeliest repository is asked at once, since its miss is the session that the upload needs anyway; every
further one only where a HEAD shows the blob, for each miss would leave another session behind. A refusal
never fails the job.
"""

from __future__ import annotations

from collections.abc import Sequence

from distworker.digest import Digest
from distworker.errors import AuthRequired, Denied, RealmRefused, TransferError, Unauthorized
from distworker.registry import scopes, sessions
from distworker.registry.base import UploadSession
from distworker.registry.blobs import has_blob
from distworker.registry.call import Call
from distworker.registry.endpoint import Endpoint

#: What a closed source repository looks like; the destination itself may still be open.
_CLOSED = (AuthRequired, Unauthorized, Denied, RealmRefused)


def mount_blob(
    at: Endpoint, repository: str, digest: Digest, sources: Sequence[str], *, anonymous: bool = False
) -> UploadSession | None:
    """None when mounted, from one of `sources` or, with `anonymous`, from wherever the registry finds it;
    else a session to upload through.

    Raises:
        RepositoryUnknown, Denied, …: the destination takes no uploads. Throttled, Unavailable, …: not now.
    """
    mounting = _Mounting(at, repository, digest)
    try:
        others = [source for source in sources if source != repository]
        mounted = any(mounting.tries(source) for source in others[: at.quirks.mount_candidates])
        # Quay refuses it, distribution takes it for a plain POST; only some grant it.
        mounted = mounted or (anonymous and mounting.post(""))
    except BaseException:
        mounting.cancel()
        raise
    if mounted:
        mounting.cancel()  # the session of an earlier refusal is of no more use
        return None
    return mounting.session or sessions.start_upload(at, repository, digest)


class _Mounting:
    """One blob's tries; keeps the newest session and cancels the one before."""

    def __init__(self, at: Endpoint, repository: str, digest: Digest) -> None:
        self.session: UploadSession | None = None
        self._at = at
        self._repository = repository
        self._digest = digest
        self._asked = 0

    def tries(self, source: str) -> bool:
        """Try one repository; True when it worked."""
        self._asked += 1
        return (self._asked == 1 or self._shows(source)) and self.post(source)

    def post(self, source: str) -> bool:
        """Ask for the mount; True when it is done."""
        query = {"mount": str(self._digest), **({"from": source} if source else {})}
        # Both in one token, or the registry cannot see that we may read the source.
        needed = (scopes.push(self._repository), *((scopes.pull(source),) if source else ()))
        where = self._at.where("mount blob", self._repository, self._digest)
        call = Call("POST", self._at.uploads(self._repository, **query), where, scopes=needed)
        try:
            with self._at.http.send(call) as reply:
                if reply.status == 202:
                    self.cancel()
                    self.session = sessions.session_of(self._repository, reply)
                return reply.status == 201
        except _CLOSED:
            return False  # perhaps only the source is closed to us; the next one or the plain POST will tell
        except TransferError as error:
            if error.retry:
                raise
            return False

    def cancel(self) -> None:
        """Drop the session, if there is one."""
        if self.session is not None:
            sessions.cancel_upload(self._at, self.session)
            self.session = None

    def _shows(self, source: str) -> bool:
        try:
            return has_blob(self._at, source, self._digest)
        except TransferError as error:
            if error.retry:
                raise
            return False
