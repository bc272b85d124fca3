"""Manifests: HEAD and GET, byte for byte.

The bytes are hashed against the digest that was asked for; what headers say is checked too, and never
believed instead (regclient GHSA-qv35-3gw6-8q4j). What HEAD says is a hint: whatever is odd about it is
settled by a GET. Bytes that a cache or proxy spoiled are asked for once more, past both. Nothing is ever
re-serialised, and nothing is decompressed.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from distworker.digest import Digest
from distworker.errors import (
    DigestMismatch,
    DistworkerError,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    NotARegistry,
    ProtocolError,
    TransferError,
    Unavailable,
    UnsupportedDigest,
    clean,
)
from distworker.limits import MANIFEST_MAX_PULL
from distworker.manifest import Manifest, parse_manifest, verify_manifest
from distworker.mediatypes import ACCEPT, ACCEPTED, bare
from distworker.registry import faults, scopes
from distworker.registry.base import ManifestHead
from distworker.registry.call import PAST_CACHES, Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where
from distworker.registry.ping import explained

_LOG = logging.getLogger(__name__)


def head_manifest(at: Endpoint, repository: str, reference: str) -> ManifestHead | None:
    """What the registry says is under `reference`; None when it says 404.

    A registry whose HEAD is no use (405, 403, no digest, a storage host that signs only GET) is asked with
    GET, at once where that is known of it.
    """
    if at.quirks.head_manifests:
        missing = {404, 403} if at.quirks.head_403_is_missing else {404}
        with at.http.send(_call(at, "HEAD", "head manifest", repository, reference)) as reply:
            if reply.status in missing and reply.origin == at.http.origin:
                return None
            hint = _hint(reply, _asked(reference), at.quirks.digest_header_trusted)
        if hint is not None:
            return hint
    try:
        manifest = get_manifest(at, repository, reference)
    except ManifestUnknown:
        return None
    return ManifestHead(manifest.digest, manifest.media_type, len(manifest.raw))


def get_manifest(at: Endpoint, repository: str, reference: str, media_type: str = "") -> Manifest:
    """The manifest under `reference`, its bytes proven.

    `media_type` is what the descriptor that led here states; it counts only when `reference` is its digest.

    Raises:
        ManifestUnknown: 404. DigestMismatch: other bytes than the digest asked for, twice, or than the header
        says. ManifestTooLarge, ManifestInvalid, Schema1Unsupported, UnsupportedDigest: what came cannot be
        used.
    """
    call = _call(at, "GET", "get manifest", repository, reference)
    spoiled: TransferError
    # A cache or proxy may have mangled it once; a second time it is what the registry has.
    for again in (call, replace(call, headers={**call.headers, **PAST_CACHES}, fresh=True)):
        try:
            return _get(at, again, _asked(reference), media_type)
        except _Spoiled as error:
            spoiled = error.error
    raise spoiled


class _Spoiled(Exception):
    """What came is not what the registry holds, so it is worth asking once more."""

    def __init__(self, error: TransferError) -> None:
        super().__init__(error.message)
        self.error = error


def _get(at: Endpoint, call: Call, asked: Digest | None, media_type: str) -> Manifest:
    with at.http.send(call) as reply:
        raw = _body(at, reply)
    try:
        _vouched(raw, stated_digest(reply), asked, at.quirks.digest_header_trusted, call.where)
        return parse_manifest(raw, reply.header("Content-Type"), asked, media_type)
    except (TransferError, UnsupportedDigest) as error:
        found = faults.prefixed(error, call.where)
    encoding = reply.header("Content-Encoding").strip().lower()
    if encoding not in {"", "identity"}:
        # What is in it is not looked at: that is how a small answer would become a large one.
        raise ManifestInvalid(
            f"{call.where}: the answer was compressed on the way ({clean(encoding, 20)}), "
            "which was not asked for",
            **call.where.fields,
        )
    complaint = reply.complaint(raw)
    if complaint is None and isinstance(found, DigestMismatch):
        raise _Spoiled(found)
    raise complaint or found


def _body(at: Endpoint, reply: Reply) -> bytes:
    """What was sent as the manifest; raises what was said instead."""
    if reply.status != 200:
        raise explained(at, reply.error())
    if bare(reply.header("Content-Type")) == "text/html":
        raise NotARegistry(
            f"{reply.where}: {at.registry} answers with a web page, so it is none; check the host name",
            **reply.where.fields,
            status=reply.status,
        )
    try:
        return _bounded(reply)
    except Unavailable as error:
        cut = _Spoiled(error)
    raise cut


def _vouched(raw: bytes, stated: Digest | None, asked: Digest | None, trusted: bool, where: Where) -> None:
    """The header's digest agrees with the bytes, whatever its algorithm; the digest asked for comes first."""
    if stated is None or stated == asked:
        return
    if asked is not None:
        verify_manifest(raw, asked)
    try:
        verify_manifest(raw, stated)
    except DigestMismatch:
        if trusted:
            raise DigestMismatch(f"the registry says {stated} and sends other bytes") from None
        _LOG.warning("%s: the registry says it is %s and sends other bytes", where, stated)


def _asked(reference: str) -> Digest | None:
    """The digest that was asked for; None for a tag."""
    return Digest.parse(reference) if ":" in reference else None


def _hint(reply: Reply, asked: Digest | None, trusted: bool) -> ManifestHead | None:
    """What a HEAD says; None when it is not enough, or not to be believed."""
    stated = stated_digest(reply)
    media_type = bare(reply.header("Content-Type"))
    if reply.status != 200 or not media_type or not reply.length:
        return None
    if asked is None:
        digest = stated if trusted else None
    else:
        # Asked by digest, the question was only whether it is there.
        contradicts = stated is not None and stated.algorithm == asked.algorithm and stated != asked
        known = stated is not None or media_type in ACCEPTED
        digest = asked if known and not contradicts else None
    return ManifestHead(digest, media_type, reply.length) if digest else None


def _call(at: Endpoint, method: str, phase: str, repository: str, reference: str) -> Call:
    return Call(
        method,
        at.manifest(repository, reference),
        at.where(phase, repository, reference),
        scopes=(scopes.pull(repository),),
        headers={"Accept": ACCEPT},
    )


def _bounded(reply: Reply) -> bytes:
    """The body, refused before or while reading when it is too large."""
    announced = reply.length or 0
    raw = b"" if announced > MANIFEST_MAX_PULL else reply.read(MANIFEST_MAX_PULL + 1)
    if max(announced, len(raw)) > MANIFEST_MAX_PULL:
        raise ManifestTooLarge(
            f"{reply.where}: the manifest is larger than {MANIFEST_MAX_PULL} bytes", **reply.where.fields
        )
    if not raw:
        raise ProtocolError(f"{reply.where}: an empty manifest", **reply.where.fields)
    return raw


def stated_digest(reply: Reply) -> Digest | None:
    """Docker-Content-Digest, if it is one we can compare."""
    try:
        return Digest.parse(reply.header("Docker-Content-Digest"))
    except DistworkerError:
        return None
