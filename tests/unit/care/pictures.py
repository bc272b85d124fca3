"""Small images for tests of the store's upkeep, and ways to put them there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distworker.blobstore.base import BlobStore
from distworker.blobstore.keys import blob_key, blobs_prefix
from distworker.care.landing import Lander, Landing
from distworker.care.refs import refs
from distworker.digest import Digest
from distworker.manifest import Descriptor, Manifest, parse_manifest
from distworker.mediatypes import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from distworker.plan.ends import load_ref
from distworker.plan.model import ImageTree
from distworker.plan.resolve import kept_whole
from distworker.reference import Reference

TENANT = "default"
LAYER = "application/vnd.oci.image.layer.v1.tar"
HOUR = 3600.0


@dataclass(frozen=True)
class Picture:
    """An image with the bytes of its blobs."""

    tree: ImageTree
    blobs: dict[str, bytes]

    @property
    def digests(self) -> set[str]:
        """Of everything it consists of."""
        return set(self.blobs) | {str(manifest.digest) for manifest in self.tree.manifests}

    def bring(self, blob: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob, in two pieces."""
        data = self.blobs[str(blob.digest)]
        yield data[: len(data) // 2]
        yield data[len(data) // 2 :]


def described(data: bytes, media_type: str) -> dict[str, object]:
    """A descriptor of bytes."""
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


def picture(label: str, layers: Sequence[str], **fields: object) -> Picture:
    """An image; layers of the same name are the same bytes."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "label": label}).encode()
    contents = [f"layer {name}".encode() * 50 for name in layers]
    record = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(config, OCI_CONFIG),
        "layers": [described(data, LAYER) for data in contents],
        **fields,
    }
    manifest = parse_manifest(json.dumps(record).encode())
    blobs = {str(Digest.of(data)): data for data in (config, *contents)}
    return Picture(ImageTree(manifest, (manifest,)), blobs)


def group(*members: Picture) -> Picture:
    """An index over images."""
    children = [
        {"mediaType": m.tree.root.media_type, "digest": str(m.tree.root.digest), "size": m.tree.root.size}
        for m in members
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()
    root: Manifest = parse_manifest(raw)
    below = tuple(manifest for member in members for manifest in member.tree.manifests)
    blobs = {digest: data for member in members for digest, data in member.blobs.items()}
    return Picture(ImageTree(root, (*below, root)), blobs)


def hang(store: BlobStore, name: str, image: Picture) -> None:
    """Put an image into the store under a name."""
    Lander(store, TENANT, image.bring).land([Landing([Reference.parse(name)], image.tree)])


def digests_in(store: BlobStore) -> set[str]:
    """Every blob of the store."""
    prefix = blobs_prefix(TENANT)
    return {found.key.removeprefix(prefix).replace("/", ":") for found in store.list(prefix)}


def broken_refs(store: BlobStore) -> list[str]:
    """The refs below which something is missing."""
    found = []
    for ref in refs(store, TENANT):
        head = load_ref(store.get_bytes(ref.key, 4096) or b"", ref.key)
        if not kept_whole(store, TENANT, head.digest):
            found.append(ref.name)
    return found


def spoil(store: BlobStore, digest: str) -> None:
    """Change a byte of a blob, as a failing disk does."""
    key = blob_key(TENANT, Digest.parse(digest))
    data = store.get_bytes(key, 1 << 20) or b""
    store.put_bytes(key, bytes([data[0] ^ 1]) + data[1:])
