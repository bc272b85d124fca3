"""Sending blobs: open a session, send, commit, and find out what became of it when the answer is lost.

One PUT with the whole body is the rule, a streamed PATCH and an empty PUT the fallback for registries that
refuse it (remembered per registry). A commit is not idempotent and its reply may get lost after minutes of
hashing, so an unknown outcome is settled by HEAD before anything is sent again (GHCR: 40 of 51 such failures
had been stored). Locations are capabilities: used to the letter, never logged, and without credentials on
another origin (distribution-spec, "Pushing blobs").
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from distworker.digest import Digest
from distworker.errors import (
    DigestMismatch,
    DistworkerError,
    ProtocolError,
    RedirectRefused,
    RequestTimeout,
    TransferError,
    Unavailable,
    UploadSessionLost,
)
from distworker.registry import faults, scopes
from distworker.registry.base import BodyFactory, UploadSession
from distworker.registry.blobs import has_blob
from distworker.registry.call import Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.http import BACKOFF
from distworker.registry.ping import explained
from distworker.registry.profiles import UploadMode
from distworker.registry.urls import origin_of, resolve, with_query
from distworker.registry.waits import CANCEL_TIMEOUT, COMMIT_TIMEOUT, SESSIONS_MAX

_STORED: Final = frozenset({200, 201, 202, 204})
#: Refusals of one PUT with the whole body that a PATCH may pass.
_NOT_MONOLITHIC: Final = frozenset({405, 411, 413, 415, 416, 501})
#: Codes of a session the registry no longer knows.
_LOST: Final = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UNKNOWN", "RANGE_INVALID"})
_WRONG_BYTES: Final = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})


def start_upload(at: Endpoint, repository: str) -> UploadSession:
    """Open an upload session.

    Raises:
        RepositoryUnknown, Denied, Quota: why not. ProtocolError: no usable Location.
    """
    where = at.where("start upload", repository)
    call = Call("POST", at.uploads(repository), where, scopes=(scopes.push(repository),))
    with at.http.send(call) as reply:
        if reply.status not in _STORED:
            raise explained(at, reply.error())
        return session_of(repository, reply)


def session_of(repository: str, reply: Reply) -> UploadSession:
    """The session that a reply's Location opens."""
    target = reply.header("Location")
    if not target:
        raise reply.error("it opened no upload session (no Location), so this is no registry we can write to")
    try:
        return UploadSession(repository, resolve(reply.url, target))
    except (ProtocolError, RedirectRefused) as error:
        raise faults.prefixed(error, reply.where) from None


def cancel_upload(at: Endpoint, session: UploadSession) -> None:
    """Best effort; never raises and never waits long."""
    where = at.where("cancel upload", session.repository)
    call = Call("DELETE", session.location, where, timeout=CANCEL_TIMEOUT, once=True)
    try:
        at.http.send(_mannered(at, session, call)).close()
    except DistworkerError:
        return


class _PatchInstead(Exception):
    """The registry does not take the whole blob in one PUT."""


class _Unclear(Exception):
    """The outcome is unknown, or the session is gone."""

    def __init__(self, error: TransferError) -> None:
        self.error = error


class Uploader:
    """Sends blobs to one registry and remembers which way it likes."""

    def __init__(
        self, at: Endpoint, mode: UploadMode = "auto", sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._at = at
        self._mode = mode
        self._sleep = sleep
        self._lock = threading.Lock()
        self._patches = mode == "patch"

    def upload(
        self,
        repository: str,
        digest: Digest,
        size: int,
        body: BodyFactory,
        session: UploadSession | None = None,
    ) -> None:
        """Send the blob; return once the registry holds it.

        Raises:
            DigestMismatch: the registry got other bytes, twice. UploadSessionLost: it kept forgetting the
            session, or the body exists only once and is used up. Denied, Quota, Throttled, …: why it refused.
        """
        failures = 0
        while True:
            session = session or start_upload(self._at, repository)
            try:
                self._send(session, digest, size, body)
            except _PatchInstead:
                with self._lock:
                    self._patches = True
                cancel_upload(self._at, session)
            except _Unclear as unclear:
                failures += 1
                if self._arrived(repository, digest, failures):
                    return
                cancel_upload(self._at, session)
                if failures >= SESSIONS_MAX or (failures > 1 and isinstance(unclear.error, DigestMismatch)):
                    raise unclear.error from None
            except BaseException:
                cancel_upload(self._at, session)
                raise
            else:
                return
            session = None

    def _arrived(self, repository: str, digest: Digest, failures: int) -> bool:
        """Does the registry hold the blob after all? Asked twice: a commit may finish just after its reply
        broke.
        """
        if has_blob(self._at, repository, digest):
            return True
        self._sleep(BACKOFF.delay(failures))
        return has_blob(self._at, repository, digest)

    def _send(self, session: UploadSession, digest: Digest, size: int, body: BodyFactory) -> None:
        whole: BodyFactory | bytes = body if size else b""
        if self._patches and size:
            self._patch(session, digest, whole)
        else:
            self._put(session, digest, whole)

    def _put(self, session: UploadSession, digest: Digest, body: BodyFactory | bytes) -> None:
        with self._request(
            "PUT", with_query(session.location, f"digest={digest}"), session, digest, body
        ) as reply:
            if self._mode == "auto" and callable(body) and _wants_patch(reply):
                raise _PatchInstead
            self._committed(reply, session, digest)

    def _patch(self, session: UploadSession, digest: Digest, body: BodyFactory | bytes) -> None:
        with self._request("PATCH", session.location, session, digest, body) as reply:
            if reply.status not in _STORED:
                raise self._refused(reply)
            # The newest Location counts (its query holds the offset); without one the old stays good.
            newest = session_of(session.repository, reply) if reply.header("Location") else session
        url = with_query(newest.location, f"digest={digest}")
        with self._request("PUT", url, newest, digest, b"") as reply:
            self._committed(reply, newest, digest)

    def _request(
        self, method: str, url: str, session: UploadSession, digest: Digest, body: BodyFactory | bytes
    ) -> Reply:
        phase = "send blob" if callable(body) else "commit blob"
        call = Call(
            method,
            url,
            self._at.where(phase, session.repository, digest),
            headers={"Content-Type": "application/octet-stream"},
            body=body,
            timeout=COMMIT_TIMEOUT,
            once=True,
        )
        try:
            return self._at.http.send(_mannered(self._at, session, call))
        except (Unavailable, RequestTimeout) as error:
            if error.delay:
                raise
            raise _Unclear(error) from None

    def _committed(self, reply: Reply, session: UploadSession, digest: Digest) -> None:
        """Is the blob stored under its digest?"""
        if reply.status not in _STORED:
            raise self._refused(reply)
        stated = reply.header("Docker-Content-Digest")
        if stated.startswith(f"{digest.algorithm}:") and stated != digest:
            raise _Unclear(
                DigestMismatch(f"{reply.where}: the registry stored {stated[:80]}", **reply.where.fields)
            )
        if reply.status != 201 and not has_blob(self._at, session.repository, digest):
            raise reply.error("it claims success and does not hold the blob")

    def _refused(self, reply: Reply) -> Exception:
        """What to do about a refusal: an error to give up with, or another turn."""
        code = reply.problem.code
        if code in _WRONG_BYTES:
            error = DigestMismatch(
                f"{reply.where}: the registry got other bytes ({code}); "
                "the source or the way there corrupts them",
                **reply.where.fields,
                status=reply.status,
                registry_code=code,
            )
            return _Unclear(error)
        fault = reply.error()
        if code in _LOST or (isinstance(fault, UploadSessionLost) and reply.status == 404):
            lost = UploadSessionLost(fault.message, **fault.fields)
            return _Unclear(lost)
        return fault


def _wants_patch(reply: Reply) -> bool:
    """Does this refusal of a whole blob in one PUT leave hope for a PATCH?"""
    if reply.status in _NOT_MONOLITHIC:
        return True
    return (reply.status == 404 and reply.problem.code not in _LOST) or reply.problem.code == "UNSUPPORTED"


def _mannered(at: Endpoint, session: UploadSession, call: Call) -> Call:
    """`call` with credentials only for the registry's own origin; elsewhere the Location is the
    permission.
    """
    if origin_of(call.url) == at.http.origin:
        return replace(call, scopes=(scopes.push(session.repository),))
    return replace(call, anonymous=True)
