"""What the store holds: blobs, what needs them, and for each repository what it alone keeps alive.

Bytes are those of blobs and manifests, each counted once. A repository's `unique` bytes would become free if
all its refs were forgotten, its `shared` ones are also somebody else's. Memory: about 150 bytes for each blob
that is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import blobs_prefix, jobs_prefix, quarantine_prefix
from distworker.care.refs import Ref, below, head_of, kept, refs
from distworker.digest import Digest
from distworker.errors import DistworkerError, InfrastructureError
from distworker.manifest import Manifest

_SHARED: Final = -1


@dataclass
class Repository:
    """One repository of the store and its bytes. `damaged` refs cannot be read, or not whole."""

    host: str
    repository: str
    refs: int = 0
    damaged: int = 0
    unique: int = 0
    shared: int = 0

    @property
    def name(self) -> str:
        """`host/repository`."""
        return f"{self.host}/{self.repository}"


@dataclass(frozen=True, slots=True)
class Sum:
    """So many objects of so many bytes together."""

    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The store as a whole. `repositories` come with the largest first."""

    blobs: Sum
    referenced: Sum
    unreferenced: Sum
    refs: int
    unfinished: Sum
    quarantine: Sum
    jobs: Sum
    repositories: list[Repository]


def usage(store: BlobStore, tenant: str) -> Usage:
    """Add it all up: reads every manifest that a ref names, lists everything else."""
    owners: dict[bytes, int] = {}
    repositories = list(_repositories(store, tenant, owners))
    blobs = used = size = used_size = 0
    prefix = blobs_prefix(tenant)
    for found in store.list(prefix):
        blobs, size = blobs + 1, size + found.size
        if _mark(found.key.rpartition("/")[2]) in owners:
            used, used_size = used + 1, used_size + found.size
    repositories.sort(key=lambda each: (-each.unique - each.shared, each.name))
    unfinished = [write for write in store.unfinished() if write.key.startswith(f"{tenant}/")]
    return Usage(
        blobs=Sum(blobs, size),
        referenced=Sum(used, used_size),
        unreferenced=Sum(blobs - used, size - used_size),
        refs=sum(each.refs for each in repositories),
        unfinished=Sum(len(unfinished), sum(write.size for write in unfinished)),
        quarantine=_sum(store, quarantine_prefix(tenant)),
        jobs=_sum(store, jobs_prefix(tenant)),
        repositories=repositories,
    )


def _repositories(store: BlobStore, tenant: str, owners: dict[bytes, int]) -> Iterator[Repository]:
    """Each repository; a blob's bytes move from its first owner's unique ones when a second one appears."""
    made: list[Repository] = []
    for name, group in groupby(refs(store, tenant), key=lambda ref: (ref.host, ref.repository)):
        own = Repository(*name)
        mine: dict[bytes, int] = {}
        seen: set[Digest] = set()
        for ref in group:
            own.refs += 1
            own.damaged += not _take(store, tenant, ref, mine, seen)
        for mark, size in mine.items():
            owner = owners.setdefault(mark, len(made))
            if owner == len(made):
                own.unique += size
                continue
            own.shared += size
            if owner != _SHARED:
                made[owner].unique -= size
                made[owner].shared += size
                owners[mark] = _SHARED
        made.append(own)
    yield from made


def _take(store: BlobStore, tenant: str, ref: Ref, mine: dict[bytes, int], seen: set[Digest]) -> bool:
    """Everything below a ref; False when not all of it can be told."""
    try:
        head = head_of(store, ref)
        if head is None or head.digest in seen:
            return True
        root = kept(store, tenant, head.digest, head.media_type)
        if root is None:
            return False
        stack: list[Manifest] = [root]
        while stack:
            manifest = stack.pop()
            if manifest.digest in seen:
                continue
            seen.add(manifest.digest)
            mine[_mark(manifest.digest.hex)] = manifest.size
            mine.update({_mark(blob.digest.hex): blob.size for blob in manifest.blobs})
            for child in manifest.children:
                mine[_mark(child.digest.hex)] = child.size
                found = None if child.digest in seen else below(store, tenant, child)
                if found is not None:
                    stack.append(found)
    except InfrastructureError:
        raise
    except DistworkerError:
        return False
    return True


def _mark(hexdigits: str) -> bytes:
    try:
        return bytes.fromhex(hexdigits[:32])
    except ValueError:
        return b""


def _sum(store: BlobStore, prefix: str) -> Sum:
    count = size = 0
    for found in store.list(prefix):
        count, size = count + 1, size + found.size
    return Sum(count, size)
