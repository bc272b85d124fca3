"""Pushing a tiny artifact to the one repository that `DISTWORKER_LIVE_PUSH` names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from distworker.digest import Digest
from distworker.manifest import Manifest, parse_manifest
from distworker.mediatypes import OCI_MANIFEST
from distworker.reference import Reference
from distworker.registry.pool import RegistryPool
from tests.live.__main__ import PUSH

TAG = "distworker-live"
#: The empty JSON that artifacts have as their config (image-spec, "Guidance for an Empty Descriptor").
EMPTY = b"{}"


class Body:
    """A few bytes to send."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[bytes]:
        yield self.data


def artifact() -> Manifest:
    """An artifact that holds nothing; always the same, so repeating this adds nothing."""
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": str(Digest.of(EMPTY)),
        "size": len(EMPTY),
    }
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.distworker-live",
        "config": empty,
        "layers": [empty],
    }
    return parse_manifest(json.dumps(document).encode(), OCI_MANIFEST)


def test_a_tiny_artifact_is_pushed_and_read_back(pool: RegistryPool) -> None:
    """Blob, manifest, tag; the same bytes come back."""
    place = Reference.parse(os.environ[PUSH])
    client, manifest = pool.client(place.host), artifact()
    client.upload_blob(place.repository, Digest.of(EMPTY), len(EMPTY), lambda offset: Body(EMPTY[offset:]))
    client.put_manifest(place.repository, TAG, manifest)
    assert client.get_manifest(place.repository, TAG).raw == manifest.raw
