"""Tag → pinned digest → the tree of manifests, each checked by digest and kept in the store.

The tag is asked once; everything after that goes by digest. A manifest that the store keeps already is used
only after the source, asked with this image's own credential, said that it has it too:
that costs a HEAD, which Docker Hub does not count, instead of a GET, which it does.

With platforms wanted, an index is replaced by the one child that matches, as `docker pull` does; its own
digest is then the image's. Part of an index is never copied as an index: that needs new bytes, so a new
digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from distworker import mediatypes
from distworker.blobstore.base import BlobStore
from distworker.digest import Digest
from distworker.errors import InvalidRequest, LimitExceeded, ManifestInvalid, ManifestUnknown, SizeMismatch
from distworker.limits import INDEX_DEPTH_MAX, TREE_BLOBS_MAX, TREE_BYTES_MAX, TREE_MANIFESTS_MAX
from distworker.manifest import Descriptor, Manifest
from distworker.plan.ends import End, in_store, keep_manifest, kept_manifest
from distworker.plan.model import ImageTree, Place
from distworker.platforms import Platform

#: What a child of these types is asked for as; any other may be a manifest or a blob.
_MANIFESTS: Final = mediatypes.INDEX_TYPES | mediatypes.MANIFEST_TYPES | {mediatypes.OCI_ARTIFACT}
_LISTED_MAX: Final = 12

#: Gives the manifest a descriptor names, or None when the source keeps it as a blob.
Fetch = Callable[[Descriptor], Manifest | None]


class Source:
    """Reads manifests at one end, through the store."""

    def __init__(self, end: End, store: BlobStore, tenant: str, token: str) -> None:
        self._end = end
        self._store = store
        self._tenant = tenant
        self._token = token

    def pin(self, place: Place) -> Digest:
        """The digest that `place` names now; a digest in it decides (moby does the same).

        Raises:
            ManifestUnknown and whatever else the source answers.
        """
        if place.digest is not None:
            return place.digest
        head = self._end.head(place.tag)
        # A GET after a 404 tells the reason, and some registries answer only that.
        return head.digest if head is not None else self._kept(self._end.get(place.tag)).digest

    def root(self, place: Place, pinned: Digest) -> Manifest:
        """The manifest `place` was pinned to. If the registry no longer gives it by digest, the tag is read
        once more: it moved meanwhile, or the registry only knows tags."""
        kept = kept_manifest(self._store, self._tenant, pinned)
        if kept is not None and (place.digest is None or self._end.head(str(pinned)) is not None):
            return kept
        try:
            return self._kept(self._end.get(str(pinned)))
        except ManifestUnknown:
            if place.digest is not None:
                raise
        return self._kept(self._end.get(place.tag))

    def moved(self, place: Place, pinned: Digest) -> Digest | None:
        """Where the tag of `place` leads now, if that is not `pinned` any more: an old image may be collected
        while it is read."""
        head = None if place.digest is not None else self._end.head(place.tag)
        return head.digest if head is not None and head.digest != pinned else None

    def fetch(self, descriptor: Descriptor) -> Manifest | None:
        """The manifest of an index entry; None when the entry is a blob."""
        reference = str(descriptor.digest)
        known = descriptor.media_type in _MANIFESTS
        kept = (
            kept_manifest(self._store, self._tenant, descriptor.digest, descriptor.media_type)
            if known
            else None
        )
        if kept is not None and self._end.head(reference) is not None:
            return kept
        if not known and self._end.head(reference) is None:
            return None
        return self._kept(self._end.get(reference, descriptor.media_type))

    def refetch(self, digest: Digest, media_type: str) -> Manifest:
        """A manifest that was resolved before and is no longer in the store."""
        return self._kept(self._end.get(str(digest), media_type))

    def _kept(self, manifest: Manifest) -> Manifest:
        keep_manifest(self._store, self._tenant, manifest, self._token)
        return manifest


def choose(root: Manifest, wanted: tuple[Platform, ...], where: str) -> Descriptor | None:
    """The child of index `root` to copy instead of it; None to copy `root` as it is.

    A single image is taken as it is, whatever its platform (moby does the same). The first child that
    matches a wanted platform counts. When the wanted ones are all that the index has, it is copied whole.

    Raises:
        ManifestUnknown: nothing matches; the sentence lists what there is.
        InvalidRequest: several match, but not all: the index would have to be rewritten.
    """
    if not wanted or not root.is_index:
        return None
    there = [child for child in root.children if child.platform is not None and not child.platform.is_unknown]
    found: dict[Digest, Descriptor] = {}
    for platform in wanted:
        match = next((child for child in there if child.platform and child.platform.matches(platform)), None)
        if match is None:
            raise ManifestUnknown(f"{where}: no matching manifest for {platform}; there are {_listed(there)}")
        found.setdefault(match.digest, match)
    if len(found) == 1:
        return next(iter(found.values()))
    if {child.digest for child in there} == set(found):
        return None
    raise InvalidRequest(
        f"{where}: the index holds more platforms than the {len(found)} wanted; copying a part of it would "
        f"change its digest. Name one platform, or none for all of {_listed(there)}",
        field="platforms",
    )


def walk(root: Manifest, fetch: Fetch) -> ImageTree:
    """`root` and everything below it, each manifest once, children before parents.

    Raises:
        LimitExceeded: deeper or more than `limits.py` allows.
        SizeMismatch, ManifestInvalid: a descriptor does not say the truth.
    """
    found: dict[Digest, Manifest] = {}
    loose: dict[Digest, Descriptor] = {}
    held = 0

    def visit(manifest: Manifest, depth: int) -> None:
        nonlocal held
        if depth > INDEX_DEPTH_MAX:
            raise LimitExceeded(f"index {root.digest.short} nests deeper than {INDEX_DEPTH_MAX} levels")
        for child in manifest.children:
            if child.digest in found or child.digest in loose:
                continue
            below = fetch(child)
            if below is None:
                loose[child.digest] = child
            else:
                _check(child, below)
                visit(below, depth + 1)
            if len(found) + len(loose) >= TREE_MANIFESTS_MAX:
                raise LimitExceeded(
                    f"index {root.digest.short} holds more than {TREE_MANIFESTS_MAX} manifests"
                )
        found[manifest.digest] = manifest
        held += manifest.size
        if held > TREE_BYTES_MAX:
            raise LimitExceeded(f"the manifests of {root.digest.short} have more than {TREE_BYTES_MAX} bytes")

    visit(root, 1)
    return ImageTree(root, tuple(found.values()), tuple(loose.values()))


def blobs_of(tree: ImageTree) -> tuple[Descriptor, ...]:
    """Every blob the image needs, each once.

    Raises:
        ManifestInvalid: the same digest with two sizes.
        LimitExceeded: more than one plan may hold.
    """
    found = unique(blob for group in (*(m.blobs for m in tree.manifests), tree.loose) for blob in group)
    if len(found) > TREE_BLOBS_MAX:
        raise LimitExceeded(f"image {tree.root.digest.short} has {len(found)} blobs; {TREE_BLOBS_MAX} may be")
    return found


def kept_whole(store: BlobStore, tenant: str, digest: Digest) -> bool:
    """Does the store hold that manifest and everything below it? A ref does not tell: what it names may have
    been collected, or removed because it was damaged. External layers may be anywhere."""

    def below(child: Descriptor) -> Manifest | None:
        if child.media_type not in _MANIFESTS:
            return None
        found = kept_manifest(store, tenant, child.digest, child.media_type)
        if found is None:
            raise ManifestUnknown(f"the store lacks manifest {child.digest}")
        return found

    root = kept_manifest(store, tenant, digest)
    try:
        blobs = blobs_of(walk(root, below)) if root else ()
    except ManifestUnknown:
        return False
    return root is not None and all(
        blob.is_foreign or in_store(store, tenant, blob.digest, blob.size) for blob in blobs
    )


def unique(blobs: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    """Each digest once, in order; see `blobs_of`."""
    found: dict[Digest, Descriptor] = {}
    for blob in blobs:
        known = found.setdefault(blob.digest, blob)
        if known.size != blob.size:
            raise ManifestInvalid(
                f"blob {blob.digest} is listed with {known.size} bytes and with {blob.size}"
            )
    return tuple(found.values())


def _check(descriptor: Descriptor, manifest: Manifest) -> None:
    if manifest.size != descriptor.size:
        raise SizeMismatch(
            f"manifest {descriptor.digest} has {manifest.size} bytes, its index says {descriptor.size}"
        )
    if (
        descriptor.media_type in _MANIFESTS
        and mediatypes.is_index(descriptor.media_type) != manifest.is_index
    ):
        raise ManifestInvalid(
            f"manifest {descriptor.digest} is not the {descriptor.media_type} its index says"
        )


def _listed(children: list[Descriptor]) -> str:
    names = [str(child.platform) for child in children]
    more = f" and {len(names) - _LISTED_MAX} more" if len(names) > _LISTED_MAX else ""
    return (", ".join(names[:_LISTED_MAX]) or "none with a platform") + more
