"""The closing PUT of an upload: with the whole blob or with nothing, and what its answer proves.

A commit is not idempotent and takes minutes where a server hashes or copies the blob first, so its answer
gets lost more often than any other (GHCR: 40 of 51 such failures had been stored, jib #4301). Whoever calls
settles an `Unclear` one by HEAD. A commit without a body may be repeated in its session, also after a login
ran out in the middle (moby #33558): only the last request is sent again, never the gigabytes before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from distworker import stopping
from distworker.digest import Digest
from distworker.errors import DigestMismatch, RequestTimeout, Throttled, Unavailable, UploadSessionLost
from distworker.limits import SLEEP_MAX
from distworker.registry import waits
from distworker.registry.base import Body, UploadSession
from distworker.registry.blobs import has_blob
from distworker.registry.bodies import Source
from distworker.registry.call import Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.http import BACKOFF
from distworker.registry.outcomes import Unclear, another_way, refused
from distworker.registry.sessions import TAKEN, mannered
from distworker.registry.urls import with_query
from distworker.registry.waits import COMMITS_MAX, SILENT_COMMITS_MAX

_BYTES: Final = {"Content-Type": "application/octet-stream"}


def send(
    at: Endpoint,
    session: UploadSession,
    digest: Digest,
    call: tuple[str, str],
    body: Callable[[], Body] | bytes,
    headers: Mapping[str, str] = _BYTES,
) -> Reply:
    """One write of an upload, `call` being method and address; never repeated below its caller."""
    method, url = call
    phase = "send blob" if callable(body) else "commit blob"
    where = at.where(phase, session.repository, digest)
    made = Call(method, url, where, headers=headers, body=body, timeout=waits.COMMIT_TIMEOUT, once=True)
    return at.http.send(mannered(at, session, made))


def put_whole(at: Endpoint, session: UploadSession, digest: Digest, source: Source) -> None:
    """The whole blob in the closing PUT.

    Raises:
        WayRefused: the registry does not take blobs like this. Unclear: nobody knows. Else why it refused.
    """
    _close(at, session, digest, lambda: source.span(0, source.size))


def close(
    at: Endpoint, session: UploadSession, digest: Digest, sleep: Callable[[float], None] = stopping.sleep
) -> None:
    """The closing PUT after everything was sent; tried a few times in its session, each time only if a HEAD
    does not show that the one before did it.

    Raises:
        Unclear: nobody knows. Else why it refused.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            _close(at, session, digest, b"")
        except Unclear as unclear:
            error = unclear.error
            enough = attempt >= (SILENT_COMMITS_MAX if isinstance(error, RequestTimeout) else COMMITS_MAX)
            if enough or isinstance(error, UploadSessionLost | DigestMismatch):
                raise
            if has_blob(at, session.repository, digest):
                return
            sleep(BACKOFF.delay(attempt) if error.delay is None else error.delay)
        else:
            return


def _close(at: Endpoint, session: UploadSession, digest: Digest, body: Callable[[], Body] | bytes) -> None:
    url = with_query(session.location, f"digest={digest}")
    try:
        reply = send(at, session, digest, ("PUT", url), body)
    except (Unavailable, RequestTimeout, Throttled) as error:
        # A whole body is not sent again and again into a limit.
        if (error.delay or 0.0) > SLEEP_MAX or (isinstance(error, Throttled) and callable(body)):
            raise
        raise Unclear(error) from None
    with reply:
        if reply.status not in TAKEN:
            raise (another_way(reply) if callable(body) else None) or refused(reply)
        _check(at, reply, session, digest)


def _check(at: Endpoint, reply: Reply, session: UploadSession, digest: Digest) -> None:
    """Is the blob stored under its digest?"""
    stated = reply.header("Docker-Content-Digest")
    if stated.startswith(f"{digest.algorithm}:") and stated != digest:
        error = DigestMismatch(f"{reply.where}: the registry stored {stated[:80]}", **reply.where.fields)
        raise Unclear(error, stored=False)
    if reply.status != 201 and not has_blob(at, session.repository, digest):
        raise reply.error("it claims success and does not hold the blob")
