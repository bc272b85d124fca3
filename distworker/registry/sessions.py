"""Upload sessions: opened by a POST, moved by every Location, asked how far they got, cancelled.

A Location is a capability. It is used to the letter (its query holds the server's state), the newest one
counts, it is never logged, and on another origin it goes without credentials: it is the permission there
(distribution-spec, "Pushing blobs").
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from distworker import stopping
from distworker.digest import Digest
from distworker.errors import (
    DistworkerError,
    ProtocolError,
    RedirectRefused,
    RequestTimeout,
    Unavailable,
    UploadSessionLost,
)
from distworker.registry import faults, scopes
from distworker.registry.base import UploadSession
from distworker.registry.call import Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.foreseen import advised
from distworker.registry.ping import explained
from distworker.registry.urls import origin_of, resolve
from distworker.registry.waits import CANCEL_TIMEOUT

#: Statuses by which registries say that they took something.
TAKEN: Final = frozenset({200, 201, 202, 204})
#: Codes of a session the registry no longer knows.
LOST: Final = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UNKNOWN"})
#: `0-<last byte>`; some write it as HTTP does, with a unit.
_RANGE: Final = re.compile(r"(?:bytes[ =])?0-([0-9]{1,18})", re.ASCII)
_MIN_CHUNK: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


def start_upload(at: Endpoint, repository: str, digest: Digest | None = None) -> UploadSession:
    """Open an upload session, for a blob of `digest` if that is known already.

    Raises:
        RepositoryUnknown, Denied, Quota: why not. ProtocolError: no usable Location.
    """
    where = at.where("start upload", repository)
    # Registries of the next specification want to know an algorithm that is not the usual one.
    query = {"digest-algorithm": digest.algorithm} if digest and digest.algorithm != "sha256" else {}
    call = Call("POST", at.uploads(repository, **query), where, scopes=(scopes.push(repository),))
    with at.http.send(call) as reply:
        if reply.status not in TAKEN:
            raise advised(at, explained(at, reply.error()))
        return session_of(repository, reply)


def session_of(repository: str, reply: Reply) -> UploadSession:
    """The session that a reply's Location opens."""
    target = reply.header("Location")
    if not target:
        raise reply.error("it opened no upload session (no Location), so this is no registry we can write to")
    least = reply.header("OCI-Chunk-Min-Length").strip()
    try:
        location = resolve(reply.url, target)
    except (ProtocolError, RedirectRefused) as error:
        raise faults.prefixed(error, reply.where) from None
    return UploadSession(repository, location, int(least) if _MIN_CHUNK.fullmatch(least) else 0)


def moved(session: UploadSession, reply: Reply) -> UploadSession:
    """The session after `reply`: the newest Location counts, and without one the old stays good."""
    if not reply.header("Location"):
        return session
    return replace(session, location=session_of(session.repository, reply).location)


def cancel_upload(at: Endpoint, session: UploadSession) -> bool:
    """Best effort; never raises and never waits long. False: nobody answered, so that the session may be open
    still; an answer ends it or says that it cannot be ended."""
    where = at.where("cancel upload", session.repository)
    call = Call("DELETE", session.location, where, timeout=CANCEL_TIMEOUT, once=True)
    try:
        with stopping.shielded():  # it is called because the run was stopped
            at.http.send(mannered(at, session, call)).close()
    except (Unavailable, RequestTimeout):
        return False
    except DistworkerError:
        pass  # a refusal is an answer
    return True


def mannered(at: Endpoint, session: UploadSession, call: Call) -> Call:
    """`call` with credentials only for the registry's own origin; elsewhere the Location is the
    permission.
    """
    if origin_of(call.url) == at.http.origin:
        return replace(call, scopes=(scopes.push(session.repository),))
    return replace(call, anonymous=True)


def ask(at: Endpoint, session: UploadSession, digest: Digest) -> tuple[UploadSession, int | None]:
    """How far an upload got: the session as it is now, and the first byte the registry lacks.

    None: it does not tell, or in the one way that can mean two things (see `next_byte`).

    Raises:
        UploadSessionLost: it no longer knows the session. Unavailable, Throttled, …: it did not answer.
    """
    call = Call("GET", session.location, at.where("upload status", session.repository, digest))
    with at.http.send(mannered(at, session, call)) as reply:
        if reply.status in TAKEN:
            return moved(session, reply), next_byte(reply.header("Range"))
        if reply.status == 404 or reply.problem.code in LOST:
            raise lost(reply)
        return session, None


def next_byte(stated: str) -> int | None:
    """The first byte a registry lacks, from its `Range`; None when that cannot be known.

    `0-0` stands for one byte by the letter and for none in distribution, so it says nothing.
    """
    match = _RANGE.fullmatch(stated.strip())
    last = int(match[1]) if match else 0
    return last + 1 if last else None


def lost(reply: Reply) -> UploadSessionLost:
    """The registry forgot the session."""
    fault = reply.error()
    return UploadSessionLost(fault.message, **fault.fields)
