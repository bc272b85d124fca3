"""Putting a manifest: the exact bytes under a tag or digest, and patience with registries that see late.

A registry may refuse a manifest for a blob that it confirmed a second ago. What it names is asked for by
HEAD: what is there will be seen soon, so the same PUT is repeated a few times; what is not is told as
BlobUnknown for the caller to bring again. A tag that may not move and already leads to this very manifest is
a success. Nothing is ever re-serialised, retyped or converted (distribution-spec, "Pushing Manifests").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from distworker import stopping
from distworker.errors import (
    BlobUnknown,
    DigestMismatch,
    ManifestTooLarge,
    ProtocolError,
    TagImmutable,
    TransferError,
    Unavailable,
)
from distworker.manifest import Descriptor, Manifest
from distworker.registry import scopes
from distworker.registry.blobs import has_blob
from distworker.registry.call import Call, Reply
from distworker.registry.endpoint import Endpoint
from distworker.registry.manifests import head_manifest, stated_digest
from distworker.registry.sessions import TAKEN
from distworker.registry.subjects import SubjectLocks, Subjects
from distworker.registry.waits import LAG_DELAY, LAG_WAITS

#: What registries say when a manifest names something they do not have (or do not see yet).
LACKING: Final = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
#: What docker-registry says while another image links a blob that both share into the same repository: it
#: reads the half-written link. Our bytes were proved against their digest, so they are not what is wrong.
_RACING: Final = "DIGEST_INVALID"
_DIGESTS: Final = re.compile(r"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})", re.ASCII)
#: Digests that an error's sentence names before it says "and more".
_NAMED: Final = 3


class Publisher:
    """Puts manifests to one registry, from any thread."""

    def __init__(
        self, at: Endpoint, locks: SubjectLocks, sleep: Callable[[float], None] = stopping.sleep
    ) -> None:
        self._at = at
        self._sleep = sleep
        self._subjects = Subjects(at, locks, sleep)

    def put(self, repository: str, reference: str, manifest: Manifest) -> None:
        """PUT the exact bytes under a tag or digest; a `subject` can be found by its referrers afterwards.

        Raises:
            BlobUnknown: it really lacks something, which the message names. Unavailable: it does not see yet
            what it has. DigestMismatch: the registry stored something else. ManifestTooLarge: above what it
            takes. ManifestInvalid, TypeRefused, TagImmutable, Quota, Denied: why it refused.
        """
        self._check_size(repository, reference, manifest)
        indexed = self._put(repository, reference, manifest)
        if manifest.subject and not indexed:
            self._subjects.add(repository, manifest.subject.digest, manifest)

    def _put(self, repository: str, reference: str, manifest: Manifest) -> bool:
        """Until it is taken; does the registry say that it indexed the subject?"""
        waits = iter(LAG_WAITS)
        while True:
            with self._send(repository, reference, manifest) as reply:
                if reply.status in TAKEN:
                    self._check(reply, manifest)
                    return bool(reply.header("OCI-Subject"))
                fault = reply.error()
                if isinstance(fault, TagImmutable) and self._leads_there(repository, reference, manifest):
                    return False
                named = self._late(reply, fault)
            self._wait(repository, manifest, fault, named, next(waits, None))

    def _send(self, repository: str, reference: str, manifest: Manifest) -> Reply:
        where = self._at.where("put manifest", repository, reference)
        call = Call(
            "PUT",
            self._at.manifest(repository, reference),
            where,
            scopes=(scopes.push(repository),),
            headers={"Content-Type": manifest.media_type},
            body=manifest.raw,
            fenced=":" not in reference,  # a tag, and there are pauses between its tries
        )
        return self._at.http.send(call)

    def _check_size(self, repository: str, reference: str, manifest: Manifest) -> None:
        most = self._at.quirks.manifest_max
        if manifest.size > most:
            where = self._at.where("put manifest", repository, reference)
            raise ManifestTooLarge(
                f"{where}: the manifest has {manifest.size} bytes; the registry takes up to {most}",
                **where.fields,
            )

    def _check(self, reply: Reply, manifest: Manifest) -> None:
        """Is it this very manifest that was stored?"""
        where, stated = reply.where, stated_digest(reply)
        if stated and stated.algorithm == manifest.digest.algorithm and stated != manifest.digest:
            raise DigestMismatch(f"{where}: the registry rewrote the manifest to {stated}", **where.fields)
        if reply.status != 201 and not stated:
            # A web server that says 200 to everything must not look like success.
            raise ProtocolError(
                f"{where}: {self._at.registry} answered {reply.status} without confirming the manifest",
                **where.fields,
                status=reply.status,
            )

    def _leads_there(self, repository: str, reference: str, manifest: Manifest) -> bool:
        head = head_manifest(self._at, repository, reference)
        return head is not None and head.digest == manifest.digest

    def _late(self, reply: Reply, fault: TransferError) -> frozenset[str]:
        """The digests that the refusal says are missing; raises one that waiting does not heal."""
        if reply.problem.code in LACKING:
            return frozenset(_DIGESTS.findall(f"{reply.problem.text} {reply.problem.detail}"))
        if reply.problem.code == _RACING:
            return frozenset()
        raise fault

    def _wait(
        self,
        repository: str,
        manifest: Manifest,
        fault: TransferError,
        named: frozenset[str],
        wait: float | None,
    ) -> None:
        """Give the registry a moment if it has everything; else raise what is missing."""
        racing = fault.fields.get("registry_code") == _RACING
        if not racing:
            self._check_absent(repository, manifest, fault, named)
        if wait is not None:
            self._sleep(wait)
        elif racing:
            raise fault
        else:
            raise Unavailable(
                f"{fault.message}; a HEAD shows all of it, so it is tried again later",
                **(fault.fields | {"delay": LAG_DELAY}),
            )

    def _check_absent(
        self, repository: str, manifest: Manifest, fault: TransferError, named: frozenset[str]
    ) -> None:
        blobs, children = _among(manifest.blobs, named), _among(manifest.children, named)
        if not blobs and not children:  # it names none of them: any may be meant
            blobs, children = manifest.blobs, manifest.children
        absent = [one.digest for one in blobs if not has_blob(self._at, repository, one.digest)]
        absent += [one.digest for one in children if head_manifest(self._at, repository, one.digest) is None]
        if absent:
            more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
            raise BlobUnknown(
                f"{self._at.where('put manifest', repository, str(manifest.digest))}: "
                f"the registry lacks {', '.join(absent[:_NAMED])}{more}",
                **fault.fields,
            )


def _among(known: Iterable[Descriptor], named: frozenset[str]) -> Sequence[Descriptor]:
    return [one for one in known if one.digest in named]
