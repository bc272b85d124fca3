"""What has to move: every unique blob of an image gets a route to its destination.

The destination itself is asked, blob by blob; hints of the ledger only suggest repositories to mount from
and are never evidence. A copy in the store may be used after the source, asked with this image's own
credential, said that it has the blob too. An external layer that neither end has stays
where it is: its `urls` are not followed and the manifest is copied as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from distworker.blobstore.base import BlobStore
from distworker.digest import Digest
from distworker.manifest import Descriptor
from distworker.plan.ends import End, in_store
from distworker.plan.model import (
    MOUNT,
    MOVE,
    PRESENT,
    REGISTRY,
    STORE,
    STORED,
    BlobRoute,
    ImageTransfer,
)

#: digests → repositories of the destination's origin that may have them.
Hints = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]


class Comparison:
    """Gives routes for one image. `check` is called before each blob."""

    def __init__(
        self,
        transfer: ImageTransfer,
        *,
        source: End,
        destination: End,
        store: BlobStore,
        hints: Hints,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._transfer = transfer
        self._source = source
        self._destination = destination
        self._store = store
        self._hints = hints
        self._check = check

    def routes(self, blobs: Sequence[Descriptor]) -> tuple[BlobRoute, ...]:
        """One route for each blob, in order; none for an external layer that stays where it is."""
        if self._transfer.destination.kind == STORE:
            return tuple(self._keep(blobs))
        missing = {blob.digest for blob in blobs if self._lacks(blob)}
        return tuple(self._give(blobs, missing))

    def _lacks(self, blob: Descriptor) -> bool:
        self._check()
        return not self._destination.has_blob(blob.digest, blob.size)

    def _keep(self, blobs: Sequence[Descriptor]) -> Iterator[BlobRoute]:
        for blob in blobs:
            self._check()
            if self._stored(blob) and self._readable(blob):
                yield _route(blob, PRESENT)
            elif not self._stays(blob):
                yield _route(blob, MOVE)

    def _give(self, blobs: Sequence[Descriptor], missing: set[Digest]) -> Iterator[BlobRoute]:
        hints = self._hints([str(digest) for digest in missing]) if missing else {}
        for blob in blobs:
            if blob.digest not in missing:
                yield _route(blob, PRESENT)
                continue
            self._check()
            if self._stays(blob):
                continue
            near = self._near(hints.get(str(blob.digest), ()))
            if near:
                yield _route(blob, MOUNT, near)
            elif self._stored(blob) and self._readable(blob):
                yield _route(blob, STORED)
            else:
                yield _route(blob, MOVE)

    def _near(self, hinted: Sequence[str]) -> str:
        """The repository to mount from: the source's own, or the hinted one most like the destination's."""
        source, destination = self._transfer.source, self._transfer.destination
        if source.kind == REGISTRY and source.host == destination.host:
            return source.repository
        others = [name for name in hinted if name != destination.repository]
        return max(others, key=lambda name: likeness(name, destination.repository), default="")

    def _stored(self, blob: Descriptor) -> bool:
        return in_store(self._store, self._transfer.tenant, blob.digest, blob.size)

    def _readable(self, blob: Descriptor) -> bool:
        return self._transfer.source.kind == STORE or self._source.has_blob(blob.digest, blob.size)

    def _stays(self, blob: Descriptor) -> bool:
        return blob.is_foreign and not self._source.has_blob(blob.digest, blob.size)


def likeness(one: str, other: str) -> int:
    """How many leading path parts two repositories share: the nearer, the likelier a mount is allowed."""
    count = 0
    for left, right in zip(one.split("/"), other.split("/"), strict=False):
        if left != right:
            break
        count += 1
    return count


def _route(blob: Descriptor, route: str, mount_from: str = "") -> BlobRoute:
    return BlobRoute(blob.digest, blob.size, blob.media_type, route, mount_from)
