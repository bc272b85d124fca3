"""From what went wrong on the wire to a typed error: which class, which sentence, whether waiting helps.

Exceptions are classified by walking their cause chain, replies by status first, then by the
registry's code and words (2.13, 4.3). Foreign text is cut, cleaned and redacted; addresses never get in.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import urllib3

from distworker.errors import (
    AuthRequired,
    BlobUnknown,
    Denied,
    DigestMismatch,
    DistworkerError,
    InternalError,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NotARegistry,
    ProtocolError,
    Quota,
    RateLimited,
    RepositoryUnknown,
    RequestTimeout,
    TagImmutable,
    Throttled,
    TLSError,
    TransferError,
    TypeRefused,
    Unauthorized,
    Unavailable,
    UploadSessionLost,
    clean,
)
from distworker.logs import redact
from distworker.registry.echoes import hide
from distworker.registry.urls import Origin
from distworker.registry.waits import LIMIT_WAIT, THROTTLE_WAIT
from distworker.retrying import parse_retry_after

if TYPE_CHECKING:
    from distworker.registry.call import Reply

#: Statuses that the same request may not meet again.
TRANSIENT: Final = frozenset({408, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524})
#: What OpenSSL says when the other side does not speak TLS at all.
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_REASON_MAX: Final = 300
#: Characters of it that are looked at at all.
_WORDS_MAX: Final = 4096


#: Statuses that mean the same in every phase (405: in those that write).
_BY_STATUS: Final[dict[int, tuple[type[TransferError], str]]] = {
    401: (Unauthorized, "check the login for this host in registries.toml or auth_files"),
    403: (Denied, "the login may not do this"),
    405: (Denied, "it takes no writes: is it read-only just now, or a cache that only pulls?"),
}
#: What a 404 means, by what was being done.
_MISSING: Final[dict[str, type[TransferError]]] = {
    "ping": NotARegistry,
    "head manifest": ManifestUnknown,
    "get manifest": ManifestUnknown,
    "head blob": BlobUnknown,
    "get blob": BlobUnknown,
    "get external layer": BlobUnknown,
    "send blob": UploadSessionLost,
    "commit blob": UploadSessionLost,
    "upload status": UploadSessionLost,
    "delete manifest": ManifestUnknown,
    "delete tag": ManifestUnknown,
}
_WRITES: Final = frozenset(
    {
        "start upload",
        "mount blob",
        "send blob",
        "commit blob",
        "put manifest",
        "delete manifest",
        "delete tag",
    }
)
_ADVICE: Final[dict[type[TransferError], str]] = {
    NotARegistry: "no registry API there; check the host name",
    ManifestUnknown: "it is missing, or hidden from this login",
    BlobUnknown: "it is missing, or hidden from this login",
    RepositoryUnknown: "it is missing, or hidden from this login",
}
_NO_SUCH_NAME: Final[tuple[type[BaseException], ...]] = (
    urllib3.exceptions.NameResolutionError,
    socket.gaierror,
)
_NOBODY: Final[tuple[type[BaseException], ...]] = (ConnectionRefusedError,)
#: Exceptions in the order in which they explain most, and what they mean.
_CAUSES: Final[tuple[tuple[tuple[type[BaseException], ...], type[TransferError], str], ...]] = (
    (
        (urllib3.exceptions.ProxyError,),
        Unavailable,
        "the proxy for {address} does not answer or refuses; check `proxy` in registries.toml",
    ),
    (
        _NO_SUCH_NAME,
        Unavailable,
        "the host name {name} cannot be resolved; check its spelling and this machine's DNS",
    ),
    (
        _NOBODY,
        Unavailable,
        "nothing listens at {address} (connection refused); check host and port, and that it runs",
    ),
    (
        (urllib3.exceptions.ReadTimeoutError,),
        RequestTimeout,
        "nothing, or far too little, came from {address} for too long",
    ),
    ((urllib3.exceptions.ConnectTimeoutError,), RequestTimeout, "connecting to {address} took too long"),
    ((TimeoutError,), RequestTimeout, "{address} did not take our bytes for too long"),
)


@dataclass(frozen=True, slots=True)
class Where:
    """What was being done, in registry words."""

    phase: str
    registry: str
    repository: str = ""
    reference: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """The fields an error carries."""
        return {
            "phase": self.phase,
            "registry": self.registry,
            "repository": self.repository or None,
            "reference": self.reference or None,
        }

    def __str__(self) -> str:
        joint = "@" if self.reference.startswith(("sha256:", "sha512:")) else ":"
        name = f"{self.registry}/{self.repository}" if self.repository else self.registry
        return f"{name}{joint}{self.reference}" if self.reference else name


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error body says: the registry's code and its words, cleaned. `detail`: all of it as it came,
    for the digests it names; never shown."""

    code: str = ""
    text: str = ""
    detail: str = field(default="", repr=False)

    def says(self, *words: str) -> bool:
        """Does the text hold one of `words`?"""
        text = self.text.lower()
        return any(word in text for word in words)


def read_problem(body: bytes, sent: Sequence[str] = ()) -> Problem:
    """The first error of an OCI error body, or whatever text there is; never raises. `sent`: secrets of the
    request, which the server may quote.
    """
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return Problem("", _foreign(_without_tags(text), sent))
    if not isinstance(document, dict):
        return Problem("", _foreign(text, sent))
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else document
    code = first.get("code")
    words = first.get("message") or first.get("details") or first.get("error") or first.get("detail") or ""
    return Problem(
        clean(hide(code, sent), 60) if isinstance(code, str) else "",
        _foreign(words if isinstance(words, str) else json.dumps(words), sent),
        text,
    )


def from_exception(
    error: BaseException, origin: Origin, where: Where, *, known: bool = True
) -> TransferError:
    """The typed error for what a socket, TLS or HTTP library raised while talking to `origin`.

    `known`: it has answered before, so that its absence is an outage and not a mistake in the request.
    """
    chain = list(_chain(error))
    made = _tls_error(chain, origin.netloc, where)
    if made is not None:
        return made
    for causes, kind, sentence in _CAUSES:
        # Exact classes: urllib3 derives "refused" from "connecting took too long".
        if any(type(one) in causes for one in chain):
            words = sentence.format(address=origin.netloc, name=origin.host)
            # Nobody there who ever answered is a mistake in the request; who did answer will be back.
            mistake = not known and any(type(one) in (*_NO_SUCH_NAME, *_NOBODY) for one in chain)
            return kind(f"{where}: {words}", retry=False if mistake else None, **where.fields)
    return Unavailable(f"{where}: the connection to {origin.netloc} broke", **where.fields)


def from_status(reply: Reply, reason: str, now: float) -> TransferError:
    """The typed error for an unwelcome answer."""
    where, problem = reply.where, reply.problem
    kind, advice = _kind(reply, problem)
    said = f"{problem.code} {problem.text}".strip()
    words = [f"{where}: {reply.origin.netloc} answered {reply.status} to {where.phase}"]
    words += [part for part in (reason, said and f"it says: {said}", advice) if part]
    delay = _delay(kind, reply, now)
    return kind(
        "; ".join(words),
        **where.fields,
        status=reply.status,
        registry_code=problem.code or None,
        delay=delay,
        retry_at=None if delay is None else round(now + delay),
    )


def located(error: TransferError, where: Where) -> TransferError:
    """`error`, with the fields it did not know yet."""
    for name, value in where.fields.items():
        if value is not None:
            error.fields.setdefault(name, value)
    return error


def prefixed(error: DistworkerError, where: Where) -> DistworkerError:
    """`error` from a lower floor, saying where it happened."""
    advice = "; what the registry keeps there is damaged, push the image to it again"
    words = f"{where}: {error.message}{advice if isinstance(error, DigestMismatch) else ''}"
    return type(error)(words, retry=error.retry, **{**where.fields, **error.fields})


def wrong_body_length(expected: int) -> InternalError:
    """Our own body does not keep its word about its length."""
    return InternalError(f"a blob being sent was announced with {expected} bytes and has another number")


def _tls_error(chain: list[BaseException], host: str, where: Where) -> TransferError | None:
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            reason = clean(one.verify_message or "it is not trusted", 120).rstrip(".")
            return TLSError(
                f"{where}: the certificate of {host} is refused: {reason}; "
                "name its CA with ca_file in registries.toml if it is yours",
                **where.fields,
            )
        if isinstance(one, ssl.SSLError):
            text = f"{one.reason or ''} {one}".upper().replace(" ", "_")
            if any(word in text for word in _NOT_TLS):
                return TLSError(
                    f"{where}: {host} answers plain http where https was expected; if that is meant, write "
                    f'["{host}"] and below it plain_http = true into registries.toml, or with --local add '
                    f"--plain-http {host}",
                    **where.fields,
                )
            if isinstance(one, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
                return Unavailable(f"{where}: the TLS connection to {host} broke", **where.fields)
            # An alert is the server's word: it did not like something of ours.
            advice = "; if it wants a client's certificate, name it with client_cert in registries.toml"
            return TLSError(
                f"{where}: TLS with {host} failed ({clean(one.reason or 'unknown', 80)})"
                f"{advice if 'ALERT' in text else ''}",
                **where.fields,
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and everything it came from: causes, contexts, urllib3's `reason`, exceptions among the
    arguments.
    """
    seen: set[int] = set()
    open_ends: list[object] = [error]
    while open_ends:
        one = open_ends.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        open_ends += [getattr(one, "reason", None), *one.args, one.__cause__, one.__context__]


def _kind(reply: Reply, problem: Problem) -> tuple[type[TransferError], str]:
    """The class for this answer and what to do about it."""
    status, phase = reply.status, reply.where.phase
    if status == 429 or problem.code == "TOOMANYREQUESTS" or problem.says("secondary rate limit"):
        spent = problem.says("pull rate limit") or reply.header("RateLimit-Remaining").startswith("0;")
        return (RateLimited, "log in or wait") if spent else (Throttled, "")
    if status == 507 or (status in {403, 412, 413, 500} and problem.says("quota", "insufficient storage")):
        return Quota, "free some room there"
    if status == 404 or problem.code in {"NAME_UNKNOWN", "MANIFEST_UNKNOWN"}:
        return _missing(phase, problem.code)
    if phase == "put manifest" and status not in {401, 405, *TRANSIENT}:
        return _manifest_refused(reply, problem)
    if status == 400 and problem.says("http request to an https server", "sent to https port"):
        return TLSError, "it speaks https; remove `plain_http` from its entry in registries.toml"
    other = (Unavailable if status in TRANSIENT else ProtocolError), ""
    return other if status == 405 and phase not in _WRITES else _BY_STATUS.get(status, other)


def _missing(phase: str, code: str) -> tuple[type[TransferError], str]:
    kind = _MISSING.get(phase, RepositoryUnknown)
    if phase in {"send blob", "commit blob"} and code == "NAME_UNKNOWN":
        kind = RepositoryUnknown
    if kind is RepositoryUnknown and not phase.startswith("list "):
        return kind, "some registries want the repository created first"
    return kind, _ADVICE.get(kind, "")


def _manifest_refused(reply: Reply, problem: Problem) -> tuple[type[TransferError], str]:
    status, code = reply.status, problem.code
    if status in {400, 403, 409, 412} and problem.says("immutable", "already exists", "overwrit"):
        return TagImmutable, "the destination does not let this tag move"
    if code in {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}:
        return BlobUnknown, "the destination lacks a blob of this manifest"
    if status == 413:
        return ManifestTooLarge, ""
    if status == 415 or code == "UNSUPPORTED":
        return TypeRefused, "the destination does not take this media type"
    if code in {"MANIFEST_INVALID", "MANIFEST_UNVERIFIED", "TAG_INVALID", "NAME_INVALID"}:
        return ManifestInvalid, "the destination refuses this manifest"
    return _BY_STATUS.get(status) or (ProtocolError, "")


def _delay(kind: type[TransferError], reply: Reply, now: float) -> float | None:
    """Seconds the server wants us to stay away, or our own rule where it must be told something."""
    asked = None
    if reply.status in {413, 429, 503} or kind in {RateLimited, Throttled}:
        asked = parse_retry_after(reply.header("Retry-After"), reply.header("Date"), now)
    if asked is None and kind is RateLimited:
        return LIMIT_WAIT
    return asked


def default_delay(error: TransferError, now: float) -> TransferError:
    """A throttle without a date, after waiting in place did not help, still says how long to stay away."""
    if isinstance(error, Throttled):
        error.fields.setdefault("delay", THROTTLE_WAIT)
        error.fields.setdefault("retry_at", round(now + THROTTLE_WAIT))
    return error


def auth_required(where: Where) -> AuthRequired:
    """The registry wants a login and we have none."""
    return AuthRequired(
        f"{where}: {where.registry} wants a login for this and none is configured; "
        "add one to registries.toml, or to a file that auth_files names",
        **where.fields,
        status=401,
    )


def _foreign(text: str, sent: Sequence[str]) -> str:
    return clean(redact(hide(text[:_WORDS_MAX], sent)), _REASON_MAX)


def _without_tags(text: str) -> str:
    """The words of a web page: enough to recognise it, nothing more."""
    if "<" not in text:
        return text
    kept, inside = [], False
    for char in text:
        inside = char == "<" or (inside and char != ">")
        kept.append(" " if inside or char == ">" else char)
    return "".join(kept)
