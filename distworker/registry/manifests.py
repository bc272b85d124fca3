"""Manifests: HEAD and GET, byte for byte.

The bytes are hashed against the digest that was asked for; what headers say is checked too, and never
believed instead. Nothing is ever re-serialised.
"""

from __future__ import annotations

from distworker.digest import Digest
from distworker.errors import (
    DigestMismatch,
    DistworkerError,
    ManifestTooLarge,
    NotARegistry,
    ProtocolError,
    TransferError,
)
from distworker.limits import MANIFEST_MAX_PULL
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import ACCEPT, bare
from distworker.registry import faults, scopes
from distworker.registry.base import ManifestHead
from distworker.registry.call import Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.ping import explained


def head_manifest(at: Endpoint, repository: str, reference: str) -> ManifestHead | None:
    """What the registry says is under `reference`; None when it says 404.

    A registry whose HEAD is no use (405, no digest, a storage host that signs only GET) is asked with GET.
    """
    call = _call(at, "HEAD", "head manifest", repository, reference)
    with at.http.send(call) as reply:
        if reply.status == 404:
            return None
        digest = _stated_digest(reply)
        media_type = bare(reply.header("Content-Type"))
        if reply.status == 200 and digest and media_type and reply.length:
            return ManifestHead(digest, media_type, reply.length)
    try:
        manifest = get_manifest(at, repository, reference)
    except TransferError as error:
        if error.fields.get("status") == 404:
            return None
        raise
    return ManifestHead(manifest.digest, manifest.media_type, len(manifest.raw))


def get_manifest(at: Endpoint, repository: str, reference: str) -> Manifest:
    """The manifest under `reference`, its bytes proven.

    Raises:
        ManifestUnknown: 404. DigestMismatch: other bytes than the digest asked for, twice, or than the header
        says. ManifestTooLarge, ManifestInvalid, Schema1Unsupported: what came cannot be used.
    """
    try:
        return _get(at, repository, reference)
    except DigestMismatch:
        # A cache or proxy may have mangled it once; a second time it is what the registry has (2.5).
        return _get(at, repository, reference)


def _get(at: Endpoint, repository: str, reference: str) -> Manifest:
    call = _call(at, "GET", "get manifest", repository, reference)
    with at.http.send(call) as reply:
        if reply.status != 200:
            raise explained(at, reply.error())
        if bare(reply.header("Content-Type")) == "text/html":
            raise NotARegistry(
                f"{reply.where}: {at.registry} answers with a web page, so it is none; check the host name",
                **reply.where.fields,
                status=reply.status,
            )
        raw = _bounded(reply)
        stated = _stated_digest(reply)
        content_type = reply.header("Content-Type")
    asked = Digest.parse(reference) if ":" in reference else None
    try:
        manifest = parse_manifest(raw, content_type, asked)
    except TransferError as error:
        raise faults.prefixed(error, call.where) from None
    if stated and stated.algorithm == manifest.digest.algorithm and stated != manifest.digest:
        raise DigestMismatch(
            f"{call.where}: the registry says {stated} and sends {manifest.digest}", **call.where.fields
        )
    return manifest


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
    raw = b"" if (reply.length or 0) > MANIFEST_MAX_PULL else reply.read(MANIFEST_MAX_PULL + 1)
    if not raw or len(raw) > MANIFEST_MAX_PULL:
        if reply.length == 0:
            raise ProtocolError(f"{reply.where}: an empty manifest", **reply.where.fields)
        raise ManifestTooLarge(
            f"{reply.where}: the manifest is larger than {MANIFEST_MAX_PULL} bytes", **reply.where.fields
        )
    return raw


def _stated_digest(reply: Reply) -> Digest | None:
    """Docker-Content-Digest, if it is one we can compare."""
    try:
        return Digest.parse(reply.header("Docker-Content-Digest"))
    except DistworkerError:
        return None
