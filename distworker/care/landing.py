"""Put whole images into the store from somewhere that is no registry: blobs first, each verified, then refs.

No ref is written before everything below all of the images is there, and each is written under an intent, so
that a collection at the same moment takes nothing away from it (`plan/refguard.py`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import blob_key
from distworker.digest import Hasher
from distworker.manifest import Descriptor
from distworker.plan.ends import StoreEnd, in_store, keep_manifest
from distworker.plan.model import STORE, ImageTree, Place
from distworker.plan.refguard import Intent
from distworker.plan.resolve import blobs_of
from distworker.reference import Reference

#: Gives the bytes of a blob, or None where there are none (a layer that is kept elsewhere).
Bring = Callable[[Descriptor], Iterable[bytes] | None]


@dataclass(frozen=True, slots=True)
class Landing:
    """An image and the tags it is to be kept under."""

    names: Sequence[Reference]
    tree: ImageTree


class Lander:
    """Brings images into one tenant's part of a store; `moved` hears of every chunk written."""

    def __init__(
        self,
        store: BlobStore,
        tenant: str,
        bring: Bring,
        *,
        moved: Callable[[int], None] = lambda count: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._bring = bring
        self._moved = moved
        self._pause = pause
        self._token = secrets.token_hex(8)

    def land(self, images: Sequence[Landing]) -> None:
        """All images whole, then all refs.

        Raises:
            DigestMismatch, SizeMismatch: what was brought is not what it should be; no ref was written.
        """
        for image in images:
            self._contents(image.tree)
        for image in images:
            blobs = blobs_of(image.tree)
            digests = [*(m.digest for m in image.tree.manifests), *(blob.digest for blob in blobs)]
            with Intent(self._store, self._tenant, digests, pause=self._pause):
                self._contents(image.tree)
                for name in image.names:
                    place = Place(STORE, name.host, name.repository, name.tag)
                    StoreEnd(self._store, self._tenant, place, self._token).put(name.tag, image.tree.root)

    def _contents(self, tree: ImageTree) -> None:
        for blob in blobs_of(tree):
            if not in_store(self._store, self._tenant, blob.digest, blob.size):
                self._write(blob)
        for manifest in tree.manifests:
            keep_manifest(self._store, self._tenant, manifest, self._token)

    def _write(self, blob: Descriptor) -> None:
        chunks = self._bring(blob)
        if chunks is None:
            return
        hasher = Hasher(blob.digest, blob.size)
        key = blob_key(self._tenant, blob.digest)
        with self._store.writer(key, blob.digest, blob.size, self._token) as writer:
            for chunk in chunks:
                hasher.update(chunk)
                writer.write(chunk)
                self._moved(len(chunk))
            writer.commit(hasher.verify())
