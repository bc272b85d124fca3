"""Read back what was published: the last thing an image waits for before it counts as done."""

from __future__ import annotations

from distworker.errors import ManifestUnknown
from distworker.manifest import Manifest
from distworker.plan.ends import End


def reads_back(end: End, reference: str, manifest: Manifest) -> bool:
    """Does `reference` lead to exactly this manifest? A HEAD that agrees is enough; one that does not, or
    says nothing, is only a hint, so the bytes themselves are fetched and hashed."""
    head = end.head(reference)
    if head is not None and head.digest == manifest.digest:
        return True
    try:
        return end.get(reference).raw == manifest.raw
    except ManifestUnknown:
        return False
