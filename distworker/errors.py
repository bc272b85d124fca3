"""Every error distworker raises on purpose, as one tree with stable codes.

* DistworkerError
    * RequestError                what the caller asked for is wrong (exit code 2)
        * InvalidRequest · InvalidReference · UnsupportedDigest · ConfigInvalid · JobUnknown · JobRunning
    * InfrastructureError         our own Redis, broker, store or fleet is not there (exit code 3)
        * StateUnavailable (StateRefused) · StoreUnavailable · StoreFull · NewerVersion · NoWorker
    * TransferError               a registry, its content or the way to it (exit code 1)
        * NotARegistry · TLSError · AddressRefused · RealmRefused · RedirectRefused
        * AuthRequired · Unauthorized · Denied
        * RepositoryUnknown · ManifestUnknown · BlobUnknown
        * ManifestInvalid · ManifestTooLarge · Schema1Unsupported · TypeRefused · LimitExceeded
        * ArchiveInvalid
        * DigestMismatch · SizeMismatch
        * UploadSessionLost · TagImmutable · Quota
        * RateLimited · Throttled · RequestTimeout · Unavailable · ProtocolError
    * Interrupted                 the run was stopped, the work was not at fault
        * Cancelled · Lost · Draining
    * WorkerLost                  the run died with its worker, too many times
    * InternalError               a bug of ours, its traceback kept in the worker's log

Each error answers `code` (stable, for machines), `retry` (may the same request succeed later? the class says
so, and a single error may know better: a host name that nobody ever resolved is no outage) and `delay`
(seconds the other side asked us to wait). Fields are plain values so that the error survives JSON and pickle;
no field ever holds a URL with a query, a header or a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

#: Longest message kept from outside; registries send whole web pages.
MESSAGE_LIMIT = 500


def clean(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """One line of at most `limit` printable characters: foreign text may hold ANSI codes or forged log
    lines."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


class DistworkerError(Exception):
    """Anything distworker raises on purpose.

    Fields (all optional, `None` when unknown): `phase` (what was being done), `registry` (host[:port]),
    `repository`, `reference` (tag or digest), `status` (HTTP status), `registry_code` (the registry's own
    code), `attempts` (sends that failed before this was raised), `field` (the request or settings field at
    fault), `delay` (seconds to wait before trying again), `retry_at` (the same as Unix time in seconds),
    `passing` (False: a store's fault that somebody must mend).
    """

    code: ClassVar[str] = "internal"
    retry: bool = False

    FIELDS: ClassVar[tuple[str, ...]] = (
        "phase",
        "registry",
        "repository",
        "reference",
        "status",
        "registry_code",
        "attempts",
        "field",
        "delay",
        "retry_at",
        "passing",
    )

    def __init__(self, message: str, *, retry: bool | None = None, **fields: Any) -> None:
        unknown = set(fields) - set(self.FIELDS)
        if unknown:
            raise TypeError(f"unknown error fields: {sorted(unknown)}")
        self.message = clean(message)
        self.fields: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        if retry is not None:
            self.retry = retry
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.fields, self.retry))

    @property
    def delay(self) -> float | None:
        """Seconds the other side asked us to wait, if it did."""
        value = self.fields.get("delay")
        return None if value is None else float(value)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready record: `{"code", "message", "retry", **fields}`."""
        return {"code": self.code, "message": self.message, "retry": self.retry, **self.fields}


def _rebuild(
    cls: type[DistworkerError], message: str, fields: dict[str, Any], retry: bool | None = None
) -> DistworkerError:
    return cls(message, retry=retry, **fields)


def from_dict(record: Mapping[str, Any]) -> DistworkerError:
    """The error a record of `to_dict` came from; an unknown code becomes `InternalError`."""
    cls = CODES.get(str(record.get("code")), InternalError)
    fields = {name: record[name] for name in DistworkerError.FIELDS if record.get(name) is not None}
    retry = record.get("retry")
    return cls(str(record.get("message", "")), retry=retry if isinstance(retry, bool) else None, **fields)


class RequestError(DistworkerError):
    """What the caller asked for is wrong; asking again changes nothing."""

    code = "request"


class InvalidRequest(RequestError):
    """A field of a request, job file or task payload is missing, unknown or of the wrong kind."""

    code = "invalid_request"


class InvalidReference(RequestError):
    """Text that is not an image reference."""

    code = "invalid_reference"


class UnsupportedDigest(RequestError):
    """A well-formed digest whose algorithm we do not compute."""

    code = "unsupported_digest"


class ConfigInvalid(RequestError):
    """A settings or registries file that cannot be used."""

    code = "config_invalid"


class JobUnknown(RequestError):
    """No job with that id."""

    code = "job_unknown"


class JobRunning(RequestError):
    """The job is not over yet."""

    code = "job_running"


class InfrastructureError(DistworkerError):
    """One of our own servers is missing or unwell."""

    code = "infrastructure"
    retry = True


class StateUnavailable(InfrastructureError):
    """Redis does not answer, or answers that it cannot write."""

    code = "state_unavailable"


class StateRefused(StateUnavailable):
    """Redis is there, and the ledger must not or may not work on it until somebody sets it up otherwise."""

    code = "state_refused"


class StoreUnavailable(InfrastructureError):
    """The blob store does not answer, answers with a server error, or refuses us."""

    code = "store_unavailable"

    @property
    def passing(self) -> bool:
        """Does it pass by itself (an outage, an overload)? Else somebody must mend the store's settings, a
        key, a clock: waiting for that is no use, though another machine may fare better."""
        return bool(self.fields.get("passing", True))


class StoreFull(InfrastructureError):
    """The blob store has no room left."""

    code = "store_full"
    retry = False


class NewerVersion(InfrastructureError):
    """A record of a newer release, which this one leaves to others."""

    code = "newer_version"


class NoWorker(InfrastructureError):
    """No live worker is there to do the work."""

    code = "no_worker"


class TransferError(DistworkerError):
    """A registry, its content, or the way to it."""

    code = "transfer"


class NotARegistry(TransferError):
    """A web server that does not speak the registry API."""

    code = "not_a_registry"


class TLSError(TransferError):
    """The certificate or handshake failed; never healed by falling back to http."""

    code = "tls_error"


class AddressRefused(TransferError):
    """The address policy forbids connecting there."""

    code = "address_refused"


class RealmRefused(TransferError):
    """A token realm that credentials may not be sent to."""

    code = "realm_refused"


class RedirectRefused(TransferError):
    """A redirect that leads somewhere it may not."""

    code = "redirect_refused"


class AuthRequired(TransferError):
    """The registry wants a login and we have none."""

    code = "auth_required"


class Unauthorized(TransferError):
    """The registry refused our login."""

    code = "unauthorized"


class Denied(TransferError):
    """Logged in, but not allowed to do this."""

    code = "denied"


class RepositoryUnknown(TransferError):
    """No such repository, or no access to it: registries do not tell these apart."""

    code = "repository_unknown"


class ManifestUnknown(TransferError):
    """No such tag or manifest, or no access to it."""

    code = "manifest_unknown"


class BlobUnknown(TransferError):
    """A manifest names a blob that its registry does not have."""

    code = "blob_unknown"


class ManifestInvalid(TransferError):
    """A manifest that is malformed or ambiguous."""

    code = "manifest_invalid"


class ManifestTooLarge(TransferError):
    """A manifest above the size limit."""

    code = "manifest_too_large"


class Schema1Unsupported(TransferError):
    """A Docker schema 1 manifest, which is not copied."""

    code = "schema1_unsupported"


class TypeRefused(TransferError):
    """The destination does not take this media type."""

    code = "type_refused"


class LimitExceeded(TransferError):
    """More layers, entries or levels than the limits allow."""

    code = "limit_exceeded"


class ArchiveInvalid(TransferError):
    """A file or folder to import that is no image archive, or a damaged or ambiguous one."""

    code = "archive_invalid"


class DigestMismatch(TransferError):
    """Bytes that do not hash to the digest they were asked by."""

    code = "digest_mismatch"


class SizeMismatch(TransferError):
    """More or fewer bytes than the descriptor says."""

    code = "size_mismatch"


class UploadSessionLost(TransferError):
    """The destination forgot an upload in progress."""

    code = "upload_session_lost"
    retry = True


class TagImmutable(TransferError):
    """The destination does not let this tag be moved."""

    code = "tag_immutable"


class Quota(TransferError):
    """The destination has no room left for this account."""

    code = "quota"


class RateLimited(TransferError):
    """A counted limit is used up; `delay` says when it opens again."""

    code = "rate_limited"
    retry = True


class Throttled(TransferError):
    """Too many requests just now."""

    code = "throttled"
    retry = True


class RequestTimeout(TransferError):
    """No answer, or no bytes, for too long."""

    code = "timeout"
    retry = True


class Unavailable(TransferError):
    """The registry cannot be reached or answers with a server error."""

    code = "unavailable"
    retry = True


class ProtocolError(TransferError):
    """An answer that the protocol does not allow."""

    code = "protocol"


class Interrupted(DistworkerError):
    """The run was stopped from outside; the work itself was not at fault."""

    code = "interrupted"
    retry = True


class Cancelled(Interrupted):
    """Nobody wants the result any more."""

    code = "cancelled"
    retry = False


class Lost(Interrupted):
    """Our lease ran out; another worker has the step now."""

    code = "lost"


class Draining(Interrupted):
    """This worker is shutting down and hands its work over."""

    code = "draining"


class WorkerLost(DistworkerError):
    """The run died with its worker, as often as is allowed."""

    code = "worker_lost"


class InternalError(DistworkerError):
    """A bug of ours."""

    code = "internal"


def _codes(cls: type[DistworkerError]) -> dict[str, type[DistworkerError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        for code, value in _codes(child).items():
            found.setdefault(code, value)
    return found


#: code → class, for reading an error back from its record.
CODES: Mapping[str, type[DistworkerError]] = _codes(DistworkerError) | {"internal": InternalError}
