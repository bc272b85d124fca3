"""Whole images in a `FakeRegistry`, put there past all checks, and the question whether one arrived."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from distworker.digest import Digest
from tests.fakes.content import Image
from tests.fakes.registry import FakeRegistry


def hold(registry: FakeRegistry, repository: str, content: Image, *tags: str) -> Image:
    """Have this image with everything below it, under these tags."""
    for child in content.children:
        hold(registry, repository, child)
    for data in content.blobs:
        registry.put_blob(repository, data)
    registry.put_manifest(repository, content.manifest.raw, content.manifest.media_type, *tags)
    return content


def holds_all(registry: FakeRegistry, repository: str, content: Image) -> bool:
    """Is the image there with everything below it, byte for byte and under its own type?"""
    manifest = content.manifest
    if registry.manifests.get((repository, manifest.digest)) != (manifest.media_type, manifest.raw):
        return False
    blobs = {Digest.of(data) for data in content.blobs} <= registry.holds[repository]
    return blobs and all(holds_all(registry, repository, child) for child in content.children)


def dump(document: Mapping[str, Any]) -> bytes:
    """A document as a client would push it."""
    return json.dumps(document).encode()
