"""The refs of a store and the manifests below them, read without trust in either.

Refs are what the store is for: `forget` removes one, `gc` keeps what they need, `scrub` asks whether it is
all there, `usage` adds it up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from distworker import mediatypes
from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import blob_key, ref_key, refs_prefix, split_ref, tags_prefix
from distworker.digest import Digest
from distworker.errors import DistworkerError, InfrastructureError, InvalidRequest, ManifestUnknown
from distworker.limits import MANIFEST_MAX_PULL
from distworker.manifest import Descriptor, Manifest, parse_manifest
from distworker.plan.ends import REF_MAX, load_ref
from distworker.reference import Reference
from distworker.registry.base import ManifestHead

_MANIFESTS: Final = mediatypes.INDEX_TYPES | mediatypes.MANIFEST_TYPES | {mediatypes.OCI_ARTIFACT}


@dataclass(frozen=True, slots=True)
class Ref:
    """A ref's key and names, and when it was written by the store's clock."""

    key: str
    host: str
    repository: str
    tag: str
    modified: float
    size: int = 0

    @property
    def name(self) -> str:
        """`host/repository:tag`."""
        return f"{self.repository_name}:{self.tag}"

    @property
    def repository_name(self) -> str:
        """`host/repository`."""
        return f"{self.host}/{self.repository}"


def refs(store: BlobStore, tenant: str, after: str = "") -> Iterator[Ref]:
    """Every ref in key order, so those of a repository stand together; `after` this key only."""
    for found in store.list(refs_prefix(tenant), after):
        names = split_ref(found.key)
        if names is not None:
            yield Ref(found.key, *names, found.modified, found.size)


def named(store: BlobStore, tenant: str, reference: Reference) -> Iterator[Ref]:
    """The ref that `reference` names, or all of its repository when it has no tag; none if there is none."""
    if reference.tag:
        key = ref_key(tenant, reference.host, reference.repository, reference.tag)
        found = store.stat(key)
        if found is not None:
            yield Ref(key, reference.host, reference.repository, reference.tag, found.modified, found.size)
        return
    for found in store.list(tags_prefix(tenant, reference.host, reference.repository)):
        names = split_ref(found.key)
        if names is not None:
            yield Ref(found.key, *names, found.modified, found.size)


def head_of(store: BlobStore, ref: Ref) -> ManifestHead | None:
    """What the ref names, or None when it is gone; ManifestInvalid when its record is damaged."""
    data = store.get_bytes(ref.key, REF_MAX)
    return None if data is None else load_ref(data, ref.key)


def forget(store: BlobStore, tenant: str, reference: Reference) -> list[str]:
    """Remove the ref that `reference` names, or all tags of its repository when it has none; returns their
    names. What only they needed goes with the next collections.

    Raises:
        InvalidRequest: a digest, which is no ref.
        ManifestUnknown: there is none.
    """
    if reference.digest is not None:
        raise InvalidRequest("name a tag, or a repository for all its tags: only these are kept by name")
    gone = []
    for ref in list(named(store, tenant, reference)):
        store.delete(ref.key)
        gone.append(ref.name)
    if not gone:
        raise ManifestUnknown(f"the store holds no {reference}", reference=str(reference))
    return gone


def kept(store: BlobStore, tenant: str, digest: Digest, media_type: str = "") -> Manifest | None:
    """A manifest of the store, or None when it is not there.

    Raises:
        ManifestInvalid and the others of `parse_manifest`: what is there is not what it should be.
    """
    raw = store.get_bytes(blob_key(tenant, digest), MANIFEST_MAX_PULL)
    return None if raw is None else parse_manifest(raw, "", digest, media_type)


def below(store: BlobStore, tenant: str, child: Descriptor) -> Manifest | None:
    """The manifest that an entry of an index names; None when the entry is a blob.

    An entry of a type nobody knows counts as a manifest when it reads as one.

    Raises:
        ManifestUnknown: it must be a manifest and is not there.
        ManifestInvalid and the other errors of `parse_manifest`: it must be one and is not.
    """
    if child.media_type in _MANIFESTS:
        found = kept(store, tenant, child.digest, child.media_type)
        if found is None:
            raise ManifestUnknown(f"the store lacks manifest {child.digest}")
        return found
    if child.size > MANIFEST_MAX_PULL:
        return None
    try:
        return kept(store, tenant, child.digest, child.media_type)
    except InfrastructureError:
        raise
    except DistworkerError:
        return None
