"""Deleting, only ever because somebody asked for it: a manifest by digest, or one tag and nothing else.

Most registries delete the manifest when they are told to delete a tag, and with it every other tag and every
index that leads there. So a tag goes by its own name only where that is known to be harmless or where nothing
else leads to its manifest; otherwise the deletion is refused (distribution-spec, "Deleting tags"). What is
gone already counts as deleted.
"""

from __future__ import annotations

from typing import Final

from distworker.digest import Digest
from distworker.errors import Denied, ManifestUnknown, NotARegistry
from distworker.limits import INDEX_DEPTH_MAX
from distworker.mediatypes import is_index
from distworker.registry import scopes
from distworker.registry.call import Call
from distworker.registry.endpoint import Endpoint
from distworker.registry.listing import tags as listing
from distworker.registry.manifests import get_manifest, head_manifest
from distworker.registry.ping import explained

#: How registries say that they do not delete this kind of thing.
_NOT_OFFERED: Final = frozenset({400, 405, 501})
_DONE: Final = frozenset({200, 202, 204})


def delete_manifest(at: Endpoint, repository: str, digest: Digest) -> bool:
    """Delete a manifest and every tag that leads to it; False when it was gone already.

    Raises:
        Denied: the login may not, or the registry does not offer it.
    """
    if not at.quirks.manifest_deletes:
        raise _not_offered(at, repository, str(digest), "delete manifest")
    deleted = _delete(at, repository, str(digest), "delete manifest")
    if deleted is None:
        raise _not_offered(at, repository, str(digest), "delete manifest")
    return deleted


def delete_tag(at: Endpoint, repository: str, tag: str, *, alone: bool = False) -> bool:
    """Delete this tag only; False when it was gone already. `alone`: the registry is known to remove the tag
    and leave its manifest.

    Raises:
        Denied: other tags need its manifest and the registry can only delete both, or does not delete.
    """
    head = head_manifest(at, repository, tag)
    if head is None:
        return False
    if not alone:
        _check_unshared(at, repository, tag, head.digest)
    deleted = _delete(at, repository, tag, "delete tag")
    if deleted is None and alone:
        raise _not_offered(at, repository, tag, "delete tag")
    # Distribution deletes by digest only; nothing else leads there, as was just seen.
    return delete_manifest(at, repository, head.digest) if deleted is None else deleted


def _delete(at: Endpoint, repository: str, reference: str, phase: str) -> bool | None:
    """True: deleted. False: it was not there. None: not offered."""
    if phase == "delete manifest" and not at.quirks.manifest_deletes:
        return None
    where = at.where(phase, repository, reference)
    call = Call("DELETE", at.manifest(repository, reference), where, scopes=(scopes.delete(repository),))
    with at.http.send(call) as reply:
        if reply.status in _DONE:
            return True
        if reply.status == 404 and not isinstance(explained(at, reply.error()), NotARegistry):
            return False
        if reply.status in _NOT_OFFERED or reply.problem.code == "UNSUPPORTED":
            return None
        raise explained(at, reply.error())


def _not_offered(at: Endpoint, repository: str, reference: str, phase: str) -> Denied:
    where = at.where(phase, repository, reference)
    return Denied(
        f"{where}: {at.registry} does not offer to {phase}s; it may be switched off", **where.fields
    )


def _check_unshared(at: Endpoint, repository: str, tag: str, digest: Digest) -> None:
    """Raise Denied when another tag leads to the manifest, itself or by an index."""
    for other in listing.tags(at, repository):
        if other != tag and _leads_to(at, repository, other, digest, INDEX_DEPTH_MAX):
            where = at.where("delete tag", repository, tag)
            raise Denied(
                f"{where}: the tag {other} needs the same manifest, and {at.registry} may delete both; "
                "delete the manifest by its digest if that is meant",
                **where.fields,
            )


def _leads_to(at: Endpoint, repository: str, reference: str, digest: Digest, depth: int) -> bool:
    head = head_manifest(at, repository, reference)
    if head is None or head.digest == digest:
        return head is not None
    if not is_index(head.media_type) or not depth:
        return False
    try:
        index = get_manifest(at, repository, str(head.digest))
    except ManifestUnknown:
        return False
    children = index.children
    if any(child.digest == digest for child in children):
        return True
    nested = [child for child in children if is_index(child.media_type)]
    return any(_leads_to(at, repository, str(child.digest), digest, depth - 1) for child in nested)
