"""Images as bytes: layers, configs, manifests and indexes, and the way to put them on a `Site`.

Contents are short and made from their names, so that the same name is the same blob everywhere.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distworker import mediatypes
from distworker.digest import Digest
from distworker.manifest import Manifest, parse_manifest
from tests.fakes.ports import Site

_digest_of = functools.cache(Digest.of)
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Image:
    """A manifest with everything below it."""

    manifest: Manifest
    blobs: tuple[bytes, ...] = ()
    children: tuple[Image, ...] = ()

    @property
    def digest(self) -> Digest:
        return self.manifest.digest


def layer(name: str, size: int = 100_000) -> bytes:
    """A layer above the size that publish moves by itself, unless told otherwise."""
    return (name.encode() * (size // len(name) + 1))[:size] if size else b""


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(data), "size": len(data), **more}


def image(
    *layers: bytes, config: bytes = b"{}", media_type: str = mediatypes.OCI_MANIFEST, **more: Any
) -> Image:
    """An image of these layers."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(config, mediatypes.OCI_CONFIG),
        "layers": [descriptor(data, LAYER) for data in layers],
        **more,
    }
    return Image(_manifest(document, media_type), (config, *layers))


def index(*entries: tuple[Image, str], media_type: str = mediatypes.OCI_INDEX) -> Image:
    """An index of images, each with its platform (`os/arch[/variant]`; "" for none)."""
    manifests = [_entry(child, platform) for child, platform in entries]
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
    return Image(_manifest(document, media_type), (), tuple(child for child, _ in entries))


def _entry(child: Image, platform: str) -> dict[str, Any]:
    entry = descriptor(child.manifest.raw, child.manifest.media_type)
    if platform:
        parts = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        entry["platform"] = parts
    return entry


def _manifest(document: dict[str, Any], media_type: str) -> Manifest:
    return parse_manifest(json.dumps(document).encode(), media_type)


def put(site: Site, repository: str, tag: str, content: Image, without: Sequence[bytes] = ()) -> Image:
    """Put the image there, past all checks, leaving out some blobs."""
    repo = site.repository(repository)
    for child in content.children:
        put(site, repository, "", child, without)
    for data in content.blobs:
        if data not in without:
            repo.blobs[Digest.of(data)] = data
    repo.manifests[content.digest] = (content.manifest.raw, content.manifest.media_type)
    if tag:
        repo.tags[tag] = content.digest
    return content


def complete(site: Site, repository: str, content: Image) -> bool:
    """Is the whole image there, byte for byte?"""
    repo = site.repositories.get(repository)
    if repo is None or repo.manifests.get(content.digest, (b"", ""))[0] != content.manifest.raw:
        return False
    blobs = all(repo.blobs.get(_digest_of(data)) == data for data in content.blobs)
    return blobs and all(complete(site, repository, child) for child in content.children)
