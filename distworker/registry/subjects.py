"""Referrers for registries that do not index them: the fallback tag, kept by whoever pushes.

A manifest with a `subject` must be found from there. A registry that indexes it says so (`OCI-Subject`); for
any other the client keeps an index under the tag `<algorithm>-<hex>` of the subject. Adding to it is a read,
a merge and a write with nobody to serialise them, so it happens under a lock, with `If-Match` where an ETag
is offered, and is read back: an entry that was seen once is never lost by our hand (distribution-spec,
"Pushing Manifests with Subject" and "Referrers Tag Schema").
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from distworker import stopping
from distworker.digest import Digest
from distworker.errors import ManifestInvalid, ManifestTooLarge, TagImmutable, TransferError, Unavailable
from distworker.limits import MANIFEST_MAX_PULL, MANIFEST_MAX_PUSH
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import ACCEPT, OCI_INDEX
from distworker.registry import faults, scopes
from distworker.registry.call import Call
from distworker.registry.endpoint import Endpoint
from distworker.registry.faults import Where
from distworker.registry.http import BACKOFF
from distworker.registry.referrers import fallback_tag
from distworker.registry.sessions import TAKEN
from distworker.registry.waits import MERGES_MAX

_STRIPES: Final = 64


class SubjectLocks(Protocol):
    """Who may change the referrers of one subject just now."""

    def hold(self, name: str) -> AbstractContextManager[object]:
        """Wait for the lock `name` and hold it."""
        ...


class LocalLocks:
    """Locks of one process. Two names may share one, so never hold two at once."""

    def __init__(self) -> None:
        self._locks = [threading.Lock() for _ in range(_STRIPES)]

    def hold(self, name: str) -> AbstractContextManager[object]:
        """See `SubjectLocks.hold`."""
        return self._locks[hash(name) % _STRIPES]


@dataclass(frozen=True, slots=True)
class _Index:
    """What stands under the tag. `entries` by digest, as they are spelled."""

    document: dict[str, Any]
    etag: str = ""
    entries: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        entries = {entry["digest"]: entry for entry in self.document.get("manifests") or ()}
        object.__setattr__(self, "entries", entries)

    def with_more(self, missing: Mapping[str, Any]) -> dict[str, Any]:
        """The document with these entries behind those it has, which stay as they are."""
        return self.document | {"manifests": [*(self.document.get("manifests") or ()), *missing.values()]}


class Subjects:
    """Keeps the fallback tags of one registry, from any thread."""

    def __init__(
        self, at: Endpoint, locks: SubjectLocks, sleep: Callable[[float], None] = stopping.sleep
    ) -> None:
        self._at = at
        self._locks = locks
        self._sleep = sleep

    def add(self, repository: str, subject: Digest, manifest: Manifest) -> None:
        """List `manifest` among the referrers of `subject`; nothing to do if it is there.

        Raises:
            ManifestInvalid: something else than an index stands under the tag; it is left as it is.
            ManifestTooLarge, LimitExceeded: one entry more than an index may have. Unavailable: others keep
            changing it.
        """
        with self._locks.hold(f"{self._at.registry}/{repository}@{subject}"):
            self._merge(repository, fallback_tag(subject), _descriptor(manifest))

    def _merge(self, repository: str, tag: str, entry: dict[str, Any]) -> None:
        wanted, refused = {entry["digest"]: entry}, ""
        for attempt in range(1, MERGES_MAX + 1):
            found = self._read(repository, tag)
            if wanted.keys() <= found.entries.keys():
                return
            missing = {name: one for name, one in wanted.items() if name not in found.entries}
            wanted = found.entries | missing
            if attempt > 2:  # the first look at what was just written may be early, or another's is there
                self._sleep(BACKOFF.delay(attempt))
            # A condition that fails although nothing changed is not understood there.
            condition = "" if found.etag == refused else found.etag
            if not self._write(repository, tag, found.with_more(missing), condition):
                refused = condition
        if not wanted.keys() <= self._read(repository, tag).entries.keys():
            where = self._at.where("put manifest", repository, tag)
            raise Unavailable(f"{where}: others keep changing this list of referrers", **where.fields)

    def _read(self, repository: str, tag: str) -> _Index:
        where = self._at.where("get manifest", repository, tag)
        call = Call(
            "GET",
            self._at.manifest(repository, tag),
            where,
            scopes=(scopes.push(repository),),
            headers={"Accept": ACCEPT},
        )
        with self._at.http.send(call) as reply:
            if reply.status == 404:
                return _Index({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
            if reply.status != 200:
                raise reply.error()
            raw = reply.read(MANIFEST_MAX_PULL + 1)
            content_type, etag = reply.header("Content-Type"), reply.header("ETag")
        _check_index(raw, content_type, where)
        return _Index(json.loads(raw), etag if etag.startswith('"') else "")  # a weak one is no condition

    def _write(self, repository: str, tag: str, document: dict[str, Any], condition: str) -> bool:
        """False when the tag changed since it was read."""
        where = self._at.where("put manifest", repository, tag)
        raw = json.dumps(document, separators=(",", ":")).encode()
        if len(raw) > MANIFEST_MAX_PUSH:
            raise ManifestTooLarge(
                f"{where}: the list of referrers would be larger than {MANIFEST_MAX_PUSH} bytes",
                **where.fields,
            )
        _check_index(raw, OCI_INDEX, where)
        headers = {"Content-Type": OCI_INDEX, **({"If-Match": condition} if condition else {})}
        call = Call(
            "PUT",
            self._at.manifest(repository, tag),
            where,
            scopes=(scopes.push(repository),),
            headers=headers,
            body=raw,
            fenced=True,  # the list may have been read long ago, by a worker that was frozen since
        )
        with self._at.http.send(call) as reply:
            if reply.status in TAKEN:
                return True
            fault = reply.error()
            if reply.status == 412 and condition and not isinstance(fault, TagImmutable):
                return False
            raise fault


def _descriptor(manifest: Manifest) -> dict[str, Any]:
    """What a list of referrers says of `manifest`."""
    kind = manifest.artifact_type or (manifest.config.media_type if manifest.config else "")
    entry: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": str(manifest.digest),
        "size": manifest.size,
    }
    if kind:
        entry["artifactType"] = kind
    if manifest.annotations:
        entry["annotations"] = dict(manifest.annotations)
    return entry


def _check_index(raw: bytes, content_type: str, where: Where) -> None:
    """It is an index that may be changed, within all limits."""
    try:
        found = parse_manifest(raw, content_type)
    except TransferError as error:
        raise faults.prefixed(error, where) from None
    if found.media_type != OCI_INDEX:
        raise ManifestInvalid(
            f"{where}: this tag is for a list of referrers, and something else stands there "
            f"({found.media_type}); it is left alone, so the referrer cannot be listed until it is removed",
            **where.fields,
        )
