"""The two ends of a transfer, registry or store, behind the few questions that planning and publishing ask.

A `StoreEnd` keeps an image as its blobs (manifests included) plus one ref record for each tag,
`{"v", "mediaType", "digest", "size"}`; a ref names a manifest only after everything below it is there. Both
ends give manifests whose bytes were checked against the digest that was asked for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Final, Protocol

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import blob_key, decode, quarantine_key, ref_key, tags_prefix
from distworker.digest import Digest, verify_bytes
from distworker.errors import DigestMismatch, ManifestInvalid, ManifestUnknown, RequestError
from distworker.limits import MANIFEST_MAX_PULL
from distworker.manifest import Manifest, parse_manifest
from distworker.names import VERSION
from distworker.plan.fields import Fields, load_object
from distworker.plan.model import STORE, Place
from distworker.registry.base import ManifestHead, Registries, Registry

log = logging.getLogger(__name__)

#: A ref record holds four short fields.
REF_MAX: Final = 4096


class End(Protocol):
    """One repository, wherever it is. `reference` is a tag or a digest."""

    def head(self, reference: str) -> ManifestHead | None:
        """What stands there, None when nothing does."""
        ...

    def get(self, reference: str, media_type: str = "") -> Manifest:
        """The manifest; ManifestUnknown when it is not there. `media_type` is what its descriptor says."""
        ...

    def put(self, reference: str, manifest: Manifest) -> None:
        """Keep the exact bytes under a tag or digest."""
        ...

    def has_blob(self, digest: Digest, size: int) -> bool:
        """Is the blob in this very repository? An unclear answer counts as no."""
        ...

    def tags(self) -> Iterator[str]:
        """All tags, each once."""
        ...


class RegistryEnd:
    """A repository of a registry."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self.registry = registry
        self.repository = repository

    def head(self, reference: str) -> ManifestHead | None:
        return self.registry.head_manifest(self.repository, reference)

    def get(self, reference: str, media_type: str = "") -> Manifest:
        return self.registry.get_manifest(self.repository, reference, media_type)

    def put(self, reference: str, manifest: Manifest) -> None:
        self.registry.put_manifest(self.repository, reference, manifest)

    def has_blob(self, digest: Digest, size: int) -> bool:
        return self.registry.has_blob(self.repository, digest, size)

    def tags(self) -> Iterator[str]:
        return self.registry.tags(self.repository)


class StoreEnd:
    """A repository name in the store. Its blobs are the tenant's, whatever repository they came by."""

    def __init__(self, store: BlobStore, tenant: str, place: Place, token: str = "") -> None:
        self.store = store
        self.tenant = tenant
        self.host = place.host
        self.repository = place.repository
        self.token = token

    def head(self, reference: str) -> ManifestHead | None:
        if ":" in reference:
            digest = Digest.parse(reference)
            found = self.store.stat(blob_key(self.tenant, digest))
            return None if found is None else ManifestHead(digest, "", found.size)
        data = self.store.get_bytes(self._ref(reference), REF_MAX)
        return None if data is None else load_ref(data, self._ref(reference))

    def get(self, reference: str, media_type: str = "") -> Manifest:
        head = self.head(reference)
        raw = None if head is None else _sound(self.store, self.tenant, head.digest)
        if head is None or raw is None:
            raise ManifestUnknown(
                f"the store holds no {self._name(reference)}; pull it first", reference=reference
            )
        return parse_manifest(raw, head.media_type, head.digest, media_type)

    def put(self, reference: str, manifest: Manifest) -> None:
        keep_manifest(self.store, self.tenant, manifest, self.token)
        if ":" not in reference:
            self.store.put_bytes(self._ref(reference), _dump_ref(manifest))

    def has_blob(self, digest: Digest, size: int) -> bool:
        return in_store(self.store, self.tenant, digest, size)

    def tags(self) -> Iterator[str]:
        prefix = tags_prefix(self.tenant, self.host, self.repository)
        for found in self.store.list(prefix):
            yield decode(found.key.removeprefix(prefix))

    def _ref(self, tag: str) -> str:
        return ref_key(self.tenant, self.host, self.repository, tag)

    def _name(self, reference: str) -> str:
        return f"{self.host}/{self.repository}{'@' if ':' in reference else ':'}{reference}"


def open_end(
    registries: Registries,
    store: BlobStore,
    tenant: str,
    place: Place,
    token: str = "",
    *,
    source: bool = False,
) -> End:
    """The end that `place` names; `token` marks what is written into the store. `source`: it is only read
    from, so mirrors may answer; what is written is never looked for there."""
    if place.kind == STORE:
        return StoreEnd(store, tenant, place, token)
    find = registries.source if source else registries.client
    return RegistryEnd(find(place.host, place.credential), place.repository)


def in_store(store: BlobStore, tenant: str, digest: Digest, size: int) -> bool:
    """Does the store hold the blob, whole?"""
    found = store.stat(blob_key(tenant, digest))
    return found is not None and found.size == size


def kept_manifest(store: BlobStore, tenant: str, digest: Digest, media_type: str = "") -> Manifest | None:
    """The manifest as the store keeps it, or None. `media_type` is what its descriptor says."""
    raw = _sound(store, tenant, digest)
    return None if raw is None else parse_manifest(raw, "", digest, media_type)


def _sound(store: BlobStore, tenant: str, digest: Digest) -> bytes | None:
    """A manifest's bytes, None when the store has none. A damaged copy counts as none and is put aside, as
    `scrub` does it, so that the right bytes find their place free."""
    key = blob_key(tenant, digest)
    raw = store.get_bytes(key, MANIFEST_MAX_PULL)
    try:
        return raw if raw is None or verify_bytes(raw, digest) else None
    except DigestMismatch:
        log.warning("the store's copy of manifest %s is damaged: it is put aside and brought again", digest)
        store.move(key, quarantine_key(tenant, digest))
        return None


def keep_manifest(store: BlobStore, tenant: str, manifest: Manifest, token: str) -> None:
    """Put the manifest's bytes beside the blobs, under its own digest."""
    if in_store(store, tenant, manifest.digest, manifest.size):
        return
    proof = verify_bytes(manifest.raw, manifest.digest, manifest.size)
    key = blob_key(tenant, manifest.digest)
    with store.writer(key, manifest.digest, manifest.size, token) as writer:
        writer.write(manifest.raw)
        writer.commit(proof)


def _dump_ref(manifest: Manifest) -> bytes:
    record = {
        "v": VERSION,
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
    }
    return json.dumps(record).encode()


def load_ref(data: bytes, key: str) -> ManifestHead:
    """What the ref record under `key` names; ManifestInvalid when it is damaged."""
    try:
        record = load_object(data)
        Fields(record, f"the store's record {key}").version()
        digest, size = Digest.parse(record["digest"]), int(record["size"])
        return ManifestHead(digest, str(record["mediaType"]), size)
    except (ValueError, KeyError, TypeError, OverflowError, RequestError):
        raise ManifestInvalid(f"the store's record {key} is damaged; pull the image again") from None
