"""May this image use the copy that the store has? The cache is shared storage, not shared rights.

Knowing a digest must not be enough to read another's private layer: unless this step's own
way of reading brought the copy, its source must give the blob to its own credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distworker.names import download_id
from distworker.plan.build import via
from distworker.plan.model import REGISTRY, BlobMove
from distworker.steps.base import Context


def prove_readable(context: Context, move: BlobMove, delivered: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises what the source answers (BlobUnknown, Denied, …) when this credential may not read the blob.

    `delivered` is the claim's: a download by the very same way is proof enough.
    """
    if move.proven or move.source.kind != REGISTRY:
        return
    if delivered.get(download_id(move.tenant, move.digest), {}).get("via") == via(move.source):
        return
    registry = context.registries.source(move.source.host, move.source.credential)
    if registry.has_blob(move.source.repository, move.digest):
        return
    # HEAD may be unclear (405, presigned for GET only): the first bytes of a GET are not.
    with registry.read_blob(move.source.repository, move.digest, move.size) as blob:
        for _ in blob:
            return
