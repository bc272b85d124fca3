"""What really went over the wire and what really lies in a store, seen from outside."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from deploy.demo.servers import Access, DockerRegistry, accesses
from distworker.blobstore.base import BlobStore


def ours(registry: DockerRegistry, method: str, part: str = "") -> list[Access]:
    """Finished requests of distworker with that method and that piece of a path."""
    return [
        access
        for access in accesses(registry.access_log)
        if access.method == method and part in access.path and "distworker" in access.agent
    ]


def blob_bytes(registry: DockerRegistry) -> Mapping[str, int]:
    """digest → bytes of blob bodies that the registry served to distworker, over all repositories."""
    sent: Counter[str] = Counter()
    for access in ours(registry, "GET", "/blobs/"):
        sent[access.path.rpartition("/")[2]] += access.sent
    return sent


def uploads(registry: DockerRegistry) -> int:
    """Blob uploads that distworker finished there; mounts are none."""
    return sum(access.status == 201 for access in ours(registry, "PUT", "/blobs/uploads/"))


def writes(registry: DockerRegistry) -> list[str]:
    """`METHOD /path` of everything that distworker wrote there, in the order in which it was finished."""
    methods = ("POST", "PUT", "PATCH", "DELETE")
    return [
        f"{access.method} {access.path}"
        for access in accesses(registry.access_log)
        if access.method in methods and "distworker" in access.agent
    ]


def kept_blobs(store: BlobStore, tenant: str = "default") -> Mapping[str, int]:
    """digest → size of every object among the store's blobs, each reread: its bytes must hash to its name."""
    found: dict[str, int] = {}
    for item in store.list(f"{tenant}/blobs/"):
        seen = hashlib.sha256()
        with store.open(item.key) as chunks:
            for chunk in chunks:
                seen.update(chunk)
        assert seen.hexdigest() == item.key.rpartition("/")[2], f"{item.key} holds something else"
        found[f"sha256:{seen.hexdigest()}"] = item.size
    return found
